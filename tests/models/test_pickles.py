import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from mitate import imports
from mitate.errors import ClassifierError, MitateWarning, UnsafePickleError, UsageError
from mitate.files import sha256
from mitate.models import pickles
from mitate.models.classifier import Classifier
from mitate.models.pickles import convert
from mitate.models.weights import read_weights


class Harmful:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def pickled(path: Path, thing: object) -> Path:
    torch.save(thing, path)
    return path


def converted(path: Path, **options):
    return convert(path, path.parent / "out", trust=sha256(path), **options)


def test_without_trust_nothing_is_run_and_the_names_are_told(tmp_path: Path) -> None:
    path = pickled(tmp_path / "a.pkl", {"model": plain(), "more": Harmful(tmp_path / "harmed")})
    with pytest.raises(UnsafePickleError) as caught:
        convert(path, tmp_path / "out", trust=None)
    assert "a.pkl is a pickle and would run code" in str(caught.value)
    assert "getattr" in str(caught.value)
    assert f"--trust-pickle {sha256(path)}" in str(caught.value)
    assert not (tmp_path / "harmed").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("trust", ["", "0" * 64, "yes"])
def test_another_sha_is_refused(tmp_path: Path, trust: str) -> None:
    path = pickled(tmp_path / "a.pkl", [plain(), Harmful(tmp_path / "harmed")])
    with pytest.raises(UnsafePickleError, match="not the one that you trust"):
        convert(path, tmp_path / "out", trust=trust)
    assert not (tmp_path / "harmed").exists()


def test_a_module_of_torchs_own_layers(tmp_path: Path) -> None:
    network = plain().eval()
    with pytest.warns(MitateWarning, match="does not tell the preprocessing"):
        classifier = converted(pickled(tmp_path / "a.pth", network), classes=("良", "不良"))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(images), network(images))
    assert classifier.class_names == ("良", "不良")
    assert classifier.provenance["converted_from"] == "a.pth"
    assert classifier.provenance["converted_sha256"] == sha256(tmp_path / "a.pth")


def test_a_module_of_timm_in_a_checkpoint(tmp_path: Path) -> None:
    network = imports.timm().create_model("test_convnext", num_classes=3).eval()
    path = pickled(tmp_path / "a.pth", {"model": network, "epoch": 3})
    with pytest.warns(MitateWarning, match="classes are called class 0"):
        classifier = convert(path, tmp_path / "out", trust=f"SHA256:{sha256(path).upper()}")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(images), network(images))
    assert classifier.preprocessing.size == (160, 160)


OWN = textwrap.dedent("""
    import sys, torch
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)
        def forward(self, x):
            return self.fc(x.mean((-2, -1)))
    if __name__ == "__main__":
        import own
        torch.save(own.Net() if sys.argv[2] == "module" else Net(), sys.argv[1])
""")


@pytest.mark.parametrize("where", ["module", "main"])
def test_a_class_whose_code_is_not_here(tmp_path: Path, where: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    path = tmp_path / "own.pth"
    subprocess.run([sys.executable, "own.py", str(path), where], cwd=tmp_path, check=True)
    with pytest.raises(ClassifierError, match=r"own\.pth .*: the pickle needs code"):
        converted(path)
    assert not (tmp_path / "out").exists()


def test_a_class_whose_code_is_here_but_not_known(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "own.py").write_text(OWN)
    path = tmp_path / "own.pth"
    subprocess.run([sys.executable, "own.py", str(path), "module"], cwd=tmp_path, check=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ClassifierError, match=r"a own\.Net cannot be built again without its code"):
        converted(path)


def test_a_pickle_without_a_network(tmp_path: Path) -> None:
    path = pickled(tmp_path / "a.pkl", {"weight": [torch.zeros(2)]})
    with pytest.raises(ClassifierError, match="holds a dict, not a network"):
        converted(path)


class Runs:
    def __reduce__(self):
        return os.system, ("exit",)


def test_what_can_reach_commands_comes_first(tmp_path: Path) -> None:
    """However many harmless names a pickle has."""
    path = pickled(tmp_path / "a.pkl", [plain(), Harmful(tmp_path / "harmed"), Runs()])
    with pytest.raises(UnsafePickleError) as caught:
        convert(path, tmp_path / "out", trust=None)
    first, _, rest = str(caught.value).partition("; not of fastai")
    assert "WHAT CAN REACH COMMANDS, FILES OR THE NET: " in first
    assert f"{os.system.__module__}.system" in first
    assert "Linear" not in first
    assert "torch.nn.modules.linear.Linear" in rest


def test_a_pickle_inside_a_pickle_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([torch.zeros(2), Path], 2))
    with pytest.raises(UnsafePickleError, match="READS ANOTHER PICKLE INSIDE, whose names are not"):
        convert(tmp_path / "a.pkl", tmp_path / "out", trust=None)


def test_names_do_not_move_the_cursor(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"cos\nsystem\n0c\x1b[2Kx\ny\n.")
    with pytest.raises(UnsafePickleError) as caught:
        convert(tmp_path / "a.pkl", tmp_path / "out", trust=None)
    assert str(caught.value).isprintable()
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pkl").read_bytes())
    with pytest.raises(UnsafePickleError) as caught:
        read_weights(tmp_path / "a.pth")
    assert "os.system" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name",
    [
        "fastcore.xtras.run",
        "torch.hub.load",
        "builtins.eval",
        "nt.system",
        "shutil.rmtree",
        "torch.utils.cpp_extension.subprocess.Popen",
        "torch.serialization.os.posix_spawn",
        "torch.fx.graph_module._exec_with_source",
        "subprocess.getoutput",
        "builtins.__import__",
    ],
)
def test_names_that_reach(name: str) -> None:
    assert pickles._reaches(name)


@pytest.mark.parametrize(
    "name", ["torch.nn.modules.linear.Linear", "PIL.Image.Image", "fastai.data.load.DataLoader"]
)
def test_names_that_do_not(name: str) -> None:
    assert not pickles._reaches(name)


def test_a_pickle_that_torch_did_not_write(tmp_path: Path) -> None:
    network = plain().eval()
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(network))
    with pytest.warns(MitateWarning) as told:
        classifier = converted(tmp_path / "a.pkl")
    said = " ".join(str(one.message) for one in told)
    assert "the pickle does not tell the preprocessing: ImageNet's" in said
    assert "classes are called class 0, class 1 …: name them in order" in said
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(classifier.logits(images), network(images))


class Printing:
    def __reduce__(self):
        return print, ("loading, without an end of the line",), None, None, None


@pytest.mark.filterwarnings("ignore::mitate.errors.MitateWarning")
def test_a_pickle_whose_code_prints(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"model": plain(), "more": Printing()}))
    assert len(converted(path).class_names) == 2


def test_another_number_of_names_than_scores(tmp_path: Path) -> None:
    path = pickled(tmp_path / "a.pth", plain())
    with pytest.raises(ClassifierError, match="gives 2 scores, and there are 3 classes: name 2"):
        converted(path, classes=("a", "b", "c"))
    assert not (tmp_path / "out").exists()


def test_what_learn_save_wrote(tmp_path: Path) -> None:
    held = {"model": plain().state_dict(), "opt": {"state": [1, 2], "kind": Path("x")}}
    with pytest.raises(ClassifierError, match=r"as learn\.save\(\) writes them.*learn\.export"):
        converted(pickled(tmp_path / "a.pth", held))


def test_a_folder_called_as_a_pickle(tmp_path: Path) -> None:
    path = pickled(tmp_path / "a.pth", plain())
    with pytest.warns(MitateWarning):
        made = convert(path, tmp_path / "out.pkl", trust=sha256(path))
    assert Classifier.load(tmp_path / "out.pkl").class_names == made.class_names


@pytest.mark.parametrize("inside", [lambda state: state, lambda state: {"state_dict": state}])
@pytest.mark.parametrize("trust", [None, "0" * 64])
def test_weights_alone_need_no_trust(tmp_path: Path, trust, inside) -> None:
    path = pickled(tmp_path / "a.pth", inside(plain().state_dict()))
    with pytest.raises(
        ClassifierError, match=r"needs no trust: give it .* as timm:NAME@.*a\.pth or"
    ):
        convert(path, tmp_path / "out", trust=trust)


def test_no_pickle_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_text("hello")
    with pytest.raises(ClassifierError, match="is not a pickle"):
        convert(tmp_path / "a.pkl", tmp_path / "out", trust=None)
    with pytest.raises(ClassifierError, match="is not a pickle"):
        converted(tmp_path / "a.pkl")
    with pytest.raises(UsageError, match="no file at"):
        convert(tmp_path / "b.pkl", tmp_path / "out", trust=None)


@pytest.mark.filterwarnings("ignore")  # fastai's own old ways
@pytest.mark.parametrize("body", ["resnet18", "convnext_atto"])
def test_a_fastai_export(tmp_path: Path, body: str) -> None:
    pytest.importorskip("fastai", reason="fastai is not installed")
    vision = imports.fastai("vision.all")
    from PIL import Image

    for name in ("a", "良"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(4):
            shade = (40 * index, 30, 99)
            Image.new("RGB", (70, 70), shade).save(tmp_path / "photos" / name / f"{index}.png")
    loaders = vision.ImageDataLoaders.from_folder(
        tmp_path / "photos",
        valid_pct=0.5,
        seed=0,
        bs=2,
        num_workers=0,
        item_tfms=vision.Resize(64),
        batch_tfms=[vision.Normalize.from_stats(*vision.imagenet_stats)],
    )
    architecture = getattr(vision, body, body)
    learn = vision.vision_learner(loaders, architecture, pretrained=False, normalize=False)
    learn.export(tmp_path / "learner.pkl")
    classifier = converted(tmp_path / "learner.pkl")
    assert classifier.class_names == ("a", "良")
    assert (classifier.preprocessing.size, classifier.preprocessing.resize) == ((64, 64), "crop")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = learn.model.cpu().eval()(images)
    torch.testing.assert_close(classifier.logits(images), expected.as_subclass(torch.Tensor))
