import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mitate.errors import UnsafePickleError, WeightsError
from mitate.files import sha256
from mitate.models.weights import (
    LARGEST_PICKLE,
    load_into,
    pickle_globals,
    read_weights,
)

STATE = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}


class Harmful:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors")
    assert torch.equal(read_weights(tmp_path / "a.safetensors")["weight"], STATE["weight"])


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "state_dict_ema", "model_ema"])
def test_pth(tmp_path: Path, key: str | None, legacy: bool) -> None:
    content = OrderedDict(STATE) if key is None else {key: STATE, "epoch": 3}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert torch.equal(read_weights(tmp_path / "a.pth")["weight"], STATE["weight"])


def test_data_parallels_prefix_is_taken_off(tmp_path: Path) -> None:
    torch.save({f"module.{name}": value for name, value in STATE.items()}, tmp_path / "a.pth")
    assert set(read_weights(tmp_path / "a.pth")) == set(STATE)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_harmful_pickle_is_refused_by_name_and_not_run(tmp_path: Path, legacy: bool) -> None:
    target = tmp_path / "harmed"
    torch.save(
        {"weight": STATE["weight"], "more": Harmful(target)},
        tmp_path / "a.pth",
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(UnsafePickleError, match=r"would run code; it names .*Path.*mitate convert"):
        read_weights(tmp_path / "a.pth")
    assert not target.exists()


def test_a_plain_harmful_pickle_too(tmp_path: Path) -> None:
    target = tmp_path / "harmed"
    for protocol in range(6):
        (tmp_path / "a.pth").write_bytes(pickle.dumps(Harmful(target), protocol))
        with pytest.raises(UnsafePickleError, match="Path|getattr"):
            read_weights(tmp_path / "a.pth")
    assert not target.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "a.pth")
    with pytest.raises(UnsafePickleError, match=r"torch\.nn\.modules"):
        read_weights(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [b"", b"hello there", b"\x80\x04", bytes(range(256)) * 4])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
def test_other_files(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a"):
        read_weights(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pth")
    save_file(STATE, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.pth", tmp_path / "a.safetensors"):
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(WeightsError, match="is not a"):
            read_weights(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights file at"):
        read_weights(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"weight": STATE["weight"], "epoch": 3}, "holds more than tensors: epoch"),
    ],
)
def test_a_pth_without_a_state_dict(tmp_path: Path, content, message: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / "a.pth")


def test_weights_of_another_architecture_tell_what_differs() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    weights = {"0.weight": torch.zeros(5, 3), "0.bias": torch.zeros(2), "strange": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        load_into(network, weights, "w.pth")
    message = str(caught.value)
    assert "w.pth does not fit Sequential" in message
    assert "missing: 1.weight, 1.bias" in message
    assert "not of this network: strange" in message
    assert "0.weight is (5, 3), expected (2, 3)" in message


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


class TestGlobals:
    def names(self, tmp_path: Path, content: bytes) -> tuple[str, ...]:
        (tmp_path / "a.pkl").write_bytes(content)
        return pickle_globals(tmp_path / "a.pkl")

    @pytest.mark.parametrize("protocol", range(6))
    def test_every_protocol(self, tmp_path: Path, protocol: int) -> None:
        thing = [OrderedDict(a=1), Path, OrderedDict(b=2), "text", Path, nn.Linear]
        found = self.names(tmp_path, pickle.dumps(thing, protocol))
        assert set(found) == {
            "collections.OrderedDict",
            f"{Path.__module__}.Path",
            "torch.nn.modules.linear.Linear",
        }

    def test_names_from_the_memo(self, tmp_path: Path) -> None:
        found = self.names(tmp_path, pickle.dumps([("os", "path"), OrderedDict, ("x", "y")], 4))
        assert found == ("collections.OrderedDict",)

    def test_a_name_behind_a_decoy_is_not_misread(self, tmp_path: Path) -> None:
        content = b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x05torch\x8c\x04load00\x93."
        assert [op.name for op, _, _ in pickletools.genops(content)][-2:] == [
            "STACK_GLOBAL",
            "STOP",
        ]
        assert self.names(tmp_path, content) == ("(a name that it computes)",)

    def test_a_zip_of_pickles(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("archive/version", "3\n")
            archive.writestr("archive/data.pkl", pickle.dumps(Path, 2))
            archive.writestr("archive/constants.pkl", pickle.dumps(OrderedDict, 2))
        assert len(pickle_globals(tmp_path / "a.zip")) == 2

    def test_no_pickle(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="opcode|pickle"):
            self.names(tmp_path, b"hello")

    def test_a_harmless_zip_behind_a_pickle_does_not_stand_for_it(self, tmp_path: Path) -> None:
        inner = tmp_path / "inner.zip"
        with zipfile.ZipFile(inner, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({}))
        harmful = pickle.dumps(Harmful(tmp_path / "harmed"))
        assert any("Path" in name for name in self.names(tmp_path, harmful + inner.read_bytes()))

    @pytest.mark.parametrize("order", [1, -1])
    @pytest.mark.parametrize("names", [["a/data.pkl"] * 2, ["a/data.pkl", "a/DATA.PKL"]])
    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_of_two_entries_of_one_name_what_is_run(self, tmp_path: Path, names, order) -> None:
        inside = [pickle.dumps(Harmful(tmp_path / "harmed")), pickle.dumps({})][::order]
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a/version", "3\n")
            for name, content in zip(names, inside, strict=True):
                archive.writestr(name, content)
        told = any("Path" in name for name in pickle_globals(tmp_path / "a.zip"))
        torch.load(tmp_path / "a.zip", weights_only=False)
        assert told >= (tmp_path / "harmed").exists()

    def test_a_zip_of_two_directories_is_read_as_torch_reads_it(self, tmp_path: Path) -> None:
        def archived(content: bytes) -> tuple[bytes, bytes, bytes]:
            """The entries of a zip, its directory and its end."""
            with zipfile.ZipFile(whole := io.BytesIO(), "w") as archive:
                archive.writestr("archive/data.pkl", content.ljust(999))
                archive.writestr("archive/version", b"3\n")
            raw = whole.getvalue()
            size, start = struct.unpack("<II", raw[-10:-2])
            return raw[:start], raw[start : start + size], raw[start + size :]

        entries, directory, end = archived(pickle.dumps(Harmful(tmp_path / "harmed"), 2))
        others, decoy, _ = archived(pickle.dumps({}, 2))
        # zipfile takes the directory before the end, and what is told to be where as shifted.
        assert (len(entries), len(directory)) == (len(others), len(decoy))
        raw = entries + directory + others + decoy + end
        (tmp_path / "a.pth").write_bytes(raw)
        with zipfile.ZipFile(tmp_path / "a.pth") as archive:
            assert archive.read("archive/data.pkl").strip() == pickle.dumps({}, 2)
        assert any("Path" in name for name in pickle_globals(tmp_path / "a.pth"))
        assert self.run(tmp_path, raw)

    def test_a_memo_that_is_filled_in_two_ways(self, tmp_path: Path) -> None:
        def text(word: str) -> bytes:
            return b"\x8c" + bytes([len(word)]) + word.encode()

        put = text("posix") + b"q\x00" + b"0" + text("system") + b"q\x01" + b"0"
        memoized = text("torch") + b"\x94" + b"0" + text("float32") + b"\x94" + b"0"
        content = b"\x80\x04" + put + memoized + b"h\x00h\x01\x93."
        assert pickle.loads(content) is os.system
        assert self.names(tmp_path, content) == ("posix.system",)

    def older(self, *inner: bytes) -> bytes:
        """A file of torch's older kind with these pickles behind its first two."""
        head = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION)
        return b"".join([*(pickle.dumps(one, 2) for one in head), *inner])

    def run(self, tmp_path: Path, content: bytes) -> bool:
        """Whether torch, reading the bytes without care, runs what touches a file."""
        with suppress(Exception):  # behind what it ran it may find nothing to go on with
            torch.load(io.BytesIO(content), weights_only=False)
        return (tmp_path / "harmed").exists()

    def test_each_pickle_of_an_older_file_is_read(self, tmp_path: Path) -> None:
        harmful = pickle.dumps(Harmful(tmp_path / "harmed"), 2)
        for place in range(3):
            inner = [pickle.dumps({}, 2)] * 3
            inner[place] = harmful
            assert any("Path" in name for name in self.names(tmp_path, self.older(*inner)))

    def test_raw_numbers_behind_an_older_file_are_none(self, tmp_path: Path) -> None:
        torch.save({"a": torch.rand(9)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
        assert pickle_globals(tmp_path / "a.pt") == (
            "torch._utils._rebuild_tensor_v2",
            "torch.FloatStorage",
            "collections.OrderedDict",
        )

    def test_a_string_that_hides_what_comes_behind(self, tmp_path: Path) -> None:
        harmful = pickle.dumps(Harmful(tmp_path / "harmed"), 2)
        strange = harmful[:2] + b"S'\xc3\xb6'\n0" + harmful[2:]
        content = self.older(strange)
        assert self.run(tmp_path, content)
        with pytest.raises(ValueError, match="ascii"):
            self.names(tmp_path, content)

    def test_a_frame_that_hides_what_comes_behind(self, tmp_path: Path) -> None:
        magic = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)[2:]
        decoy = b"".join(pickle.dumps(one, 2) for one in (1001, {}, {}, []))
        frame = magic + decoy
        framed = b"\x80\x04\x95" + len(frame).to_bytes(8, "little") + frame
        harmful = pickle.dumps(Harmful(tmp_path / "harmed"), 2)
        content = framed + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + harmful
        assert self.run(tmp_path, content)
        with pytest.raises(ValueError, match="beyond the pickle"):
            self.names(tmp_path, content)

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_an_older_file_of_any_protocol(self, tmp_path: Path, protocol: int) -> None:
        options = {"_use_new_zipfile_serialization": False, "pickle_protocol": protocol}
        torch.save(nn.Linear(2, 2), tmp_path / "a.pt", **options)
        names = pickle_globals(tmp_path / "a.pt")
        assert "torch.nn.modules.linear.Linear" in names
        assert all(name.startswith(("torch", "collections")) or "set" in name for name in names)

    def test_names_of_python_2_are_those_that_are_imported(self, tmp_path: Path) -> None:
        content = b"ccommands\ngetoutput\n."
        assert pickle.loads(content).__module__ == "subprocess"
        assert self.names(tmp_path, content) == ("subprocess.getoutput",)

    def test_what_unpacks_to_more_than_any_network_is_refused(self, tmp_path: Path) -> None:
        packed = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(tmp_path / "a.pth", "w", compression=packed) as archive:
            archive.writestr("a/version", "3\n")
            archive.writestr("a/data.pkl", bytes(LARGEST_PICKLE + 1))
        assert (tmp_path / "a.pth").stat().st_size < 1 << 17
        with pytest.raises(ValueError, match="unpacks to 64 MB"):
            pickle_globals(tmp_path / "a.pth")
        with pytest.raises(WeightsError, match="unpacks to 64 MB"):
            read_weights(tmp_path / "a.pth")
