import dataclasses
import io
import json
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.errors import DataError
from mitate.explain.estimating.estimate import Estimate
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation
from mitate.explain.files import as_json
from mitate.explain.flags import Flag
from mitate.models.classifier import Classifier
from oracles import networks

NAMES = ("いもち病", "blight", "健康", "rúst", "mould")


def explain(**changes) -> Explanation:
    model = Classifier.from_module(networks.make("with relu").float(), classes=NAMES)
    explanation = Explainer(model, "scorecam", "tapped", channel_softmax=True, seed=3)(
        networks.make_images(2).float(), labels=["健康", None], names=["葉 1.jpg", "b.png"]
    )
    return dataclasses.replace(explanation, **changes)


def test_round_trip(tmp_path: Path) -> None:
    flags = (Flag(1, 2, "zero", "なぜ"),)
    explanation = explain(flags=flags, fusion="mean")
    path = explanation.save(tmp_path / "new folder" / "説明.npz")
    again = Explanation.load(path)
    for field in dataclasses.fields(Explanation):
        if field.name not in ("maps", "classes", "logits", "pictures"):
            assert getattr(again, field.name) == getattr(explanation, field.name), field.name
    torch.testing.assert_close(again.maps, explanation.maps, rtol=1e-3, atol=1e-5)
    assert torch.equal(again.classes, explanation.classes)
    assert torch.equal(again.logits, explanation.logits)
    assert again.pictures is None
    assert again.overlay()[1][2].size == (24, 16)
    assert [p.name for p in path.parent.iterdir()] == ["説明.npz"]


def estimated() -> Explanation:
    error = torch.tensor([[0.01, 0.02, 0.0], [0.0, 0.0, 0.0]])
    return explain(estimate=Estimate(error, torch.tensor([40, 60]), torch.tensor([60, 60])))


def test_an_estimate_is_kept(tmp_path: Path) -> None:
    explanation = estimated()
    again = Explanation.load(explanation.save(tmp_path / "a.npz")).estimate
    for name, value in vars(explanation.estimate).items():
        assert torch.equal(getattr(again, name), value), name
    classes = as_json(explanation)[0]["classes"]
    assert [entry["error"] for entry in classes] == [0.01, 0.02, 0.0]
    assert "error" not in as_json(explain())[0]["classes"][0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_save_that_is_cut_short_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch, error: type[BaseException]
) -> None:
    path = explain().save(tmp_path / "a.npz")
    before = path.read_bytes()

    def half(file: io.BufferedWriter, **_: object) -> None:
        file.write(b"PK")
        raise error

    monkeypatch.setattr("numpy.savez_compressed", half)
    with pytest.raises(error):
        explain(seed=4).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_suffix_is_added(tmp_path: Path) -> None:
    assert explain().save(tmp_path / "maps.v2") == tmp_path / "maps.v2.npz"
    assert Explanation.load(tmp_path / "maps.v2").class_names == NAMES


@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1e-3, 1.0, 1e3, 1e5, 1e30])
def test_maps_of_any_magnitude_survive(tmp_path: Path, scale: float) -> None:
    maps = torch.rand(2, 3, 4, 6)
    maps[0, 0] *= scale  # one of them alone
    explanation = explain(maps=maps)
    again = Explanation.load(explanation.save(tmp_path / "a.npz"))
    torch.testing.assert_close(again.normalized(), explanation.normalized(), rtol=1e-3, atol=1e-3)


def test_full_precision_on_request(tmp_path: Path) -> None:
    explanation = explain()
    again = Explanation.load(explanation.save(tmp_path / "a.npz", half=False))
    assert torch.equal(again.maps, explanation.maps)
    half = explanation.save(tmp_path / "b.npz")
    assert half.stat().st_size < (tmp_path / "a.npz").stat().st_size


def test_what_is_not_finite_stays_so(tmp_path: Path) -> None:
    maps = torch.rand(2, 3, 4, 6)
    maps[0, 0, 0, 0], maps[1, 1, 1, 1] = float("nan"), float("-inf")
    again = Explanation.load(explain(maps=maps).save(tmp_path / "a.npz"))
    assert again.maps[0, 0, 0, 0].isnan()
    assert again.maps[1, 1, 1, 1] == float("-inf")


def test_saving_again_replaces_the_file(tmp_path: Path) -> None:
    explain().save(tmp_path / "a.npz")
    explain(method="other").save(tmp_path / "a.npz")
    assert Explanation.load(tmp_path / "a.npz").method == "other"


def write(path: Path, explanation: Explanation, **changes) -> Path:
    """Save, and write again with other arrays or another header."""
    explanation.save(path)
    with np.load(path) as stored:
        arrays = dict(stored)
    header = json.loads(arrays["header"].tobytes()) | changes.pop("header", {})
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **{**arrays, **changes})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": {"version": 2}}, "version 2 and this mitate reads 1: update it"),
        ({"header": {"format": "other"}}, "not a saved explanation"),
        ({"header": {"class_names": 3}}, "not a saved explanation"),
        ({"header": {"names": ["a"]}}, "names or labels are of another number"),
        ({"header": {"labels": [9, 0]}}, "classes are not those of its class names"),
        ({"header": {"class_names": ["a", "b"]}}, "classes are not those of its class names"),
        (
            {"header": {"flags": [{"image": 7, "target": 0, "kind": "zero", "reason": ""}]}},
            "flags name maps",
        ),
        (
            {"header": {"estimate": {"error": [[0.1]] * 2, "scored": [1, 1], "channels": [2, 2]}}},
            "estimate is of other maps",
        ),
        (
            {"header": {"estimate": {"error": [[0.1] * 3] * 2, "scored": [1], "channels": [2, 2]}}},
            "estimate is of another number",
        ),
        ({"maps": np.zeros((2, 3, 4))}, "other dimensions"),
        ({"maps": np.zeros((1, 3, 4, 6))}, "different numbers of images"),
        ({"maps": np.zeros((2, 3, 4, 6), int)}, "not numbers of the expected kind"),
        ({"classes": np.full((2, 3), 7)}, "classes are not those"),
        ({"logits": np.zeros((2, 4))}, "classes are not those"),
    ],
)
def test_damage_is_told(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Explanation.load(write(tmp_path / "a.npz", explain(), **changes))


class Harmful:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    harmful = Harmful(tmp_path / "harmed")
    for name in ("maps", "header"):
        np.savez(tmp_path / "a.npz", **{name: np.array([harmful], dtype=object)})
        with pytest.raises(DataError, match="not a saved explanation"):
            Explanation.load(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(harmful))
    with pytest.raises(DataError, match="not a saved explanation"):
        Explanation.load(tmp_path / "b.npz")
    assert not harmful.target.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "empty.npz").touch()
    (tmp_path / "text.npz").write_text("hello")
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("a.txt", "hello")
    for name in ("array.npy", "empty.npz", "text.npz", "zip.npz", "absent.npz", "."):
        with pytest.raises(DataError, match="is not a saved explanation"):
            Explanation.load(tmp_path / name)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return explain().save(tmp_path_factory.mktemp("saved") / "a.npz")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_an_error_of_ours_or_the_explanation(saved: Path, data) -> None:
    content = bytearray(saved.read_bytes())
    cut = data.draw(st.integers(0, len(content)))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] ^= data.draw(st.integers(1, 255))
    damaged = saved.with_name("damaged.npz")
    damaged.write_bytes(content[:cut] if data.draw(st.booleans()) else content)
    with suppress(DataError):
        assert len(Explanation.load(damaged)) == 2


def test_as_json() -> None:
    explanation = explain(flags=(Flag(0, 1, "zero", "why"),))
    first, second = as_json(explanation)
    assert (first["image"], first["true"], second["true"]) == ("葉 1.jpg", "健康", None)
    assert first["predicted"] == first["classes"][0]["name"]
    assert [entry["flag"] for entry in first["classes"]] == [None, "why", None]
    broken = dataclasses.replace(explanation, logits=explanation.logits * float("nan"), names=())
    assert as_json(broken)[0]["classes"][0]["probability"] is None
    assert as_json(broken)[1]["image"] == "1"
    stream = io.StringIO()
    json.dump(as_json(broken), stream, allow_nan=False)


def test_a_header_of_maps_larger_than_any_memory(saved: Path) -> None:
    with np.load(saved) as kept:
        arrays = {name: kept[name] for name in kept.files}
    with zipfile.ZipFile(saved, "w") as archive:
        for name, array in arrays.items():
            written = io.BytesIO()
            np.lib.format.write_array(written, array)
            content = written.getvalue()
            if name == "maps":
                written = io.BytesIO()
                told = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6, 10)}
                np.lib.format.write_array_header_1_0(written, told)
                content = written.getvalue()
            archive.writestr(f"{name}.npy", content)
    with pytest.raises(DataError):
        Explanation.load(saved)
