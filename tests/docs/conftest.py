"""The folder that the pages speak of, and the names in their Python blocks."""

import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mitate import Classifier, Preprocessing, imports
from mitate.data.paddy import CLASSES, write_paddy

PIXELS = 96


@pytest.fixture(autouse=True, scope="package")
def fastai_imported() -> None:
    """fastai and what lies under it warn of their own old ways when they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imports.fastai("vision.all")


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What docs/README.md says is there: photos, masks, and classifiers that know nothing yet."""
    folder = tmp_path_factory.mktemp("workshop")
    demo = folder / "out" / "demo"
    paddy = demo / "paddy"
    write_paddy(paddy, train_per_class=2, valid_per_class=1, size=PIXELS, seed=0)
    for kind in ("images", "masks"):
        shutil.copytree(paddy / kind / "train", folder / {"images": "photos"}.get(kind, kind))
    shutil.copy(paddy / "images" / "valid" / "blast" / "0001.jpg", folder / "leaf.jpg")
    photos = sorted((folder / "photos").glob("*/*.jpg"))
    rows = [f"{p.relative_to(folder)},{p.parent.name},plant {p.stem}" for p in photos]
    (folder / "parts.csv").write_text("\n".join(["path,label,part", *rows]), encoding="utf-8")
    classifier = Classifier.from_module(
        network("test_convnext", num_classes=len(CLASSES)),
        classes=CLASSES,
        preprocessing=Preprocessing(size=(PIXELS, PIXELS)),
    )
    for place in (folder / "leaves", demo / "classifier"):
        classifier.save(place)
    weights = network("mobilenetv2_100").state_dict()
    save_file(weights, folder / "mobilenetv2_100.safetensors")
    (folder / "learner.pkl").write_bytes(pickle.dumps(Path("harmless")))
    return folder


@pytest.fixture
def prepared(
    workshop: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Callable[[], Any]]:
    """Makes each name that a page may use without having made it."""

    def leaves() -> Classifier:
        """Of a folder of its own: what one page remembers there is not known to the next."""
        own = shutil.copytree(workshop / "leaves", tmp_path_factory.mktemp("own") / "leaves")
        return Classifier.load(own)

    return {
        "model": leaves,
        "classifier": leaves,
        "network": lambda: network("test_convnext", num_classes=3),
        "images": lambda: [str(workshop / "photos" / name / "0001.jpg") for name in CLASSES[:3]],
        "learn": lambda: learner(workshop / "photos"),
    }


def network(name: str, **arguments: Any) -> torch.nn.Module:
    """A network of timm with random weights, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: torch.nn.Module = imports.timm().create_model(name, **arguments)
    return made.eval()


def learner(photos: Path) -> Any:
    """A fastai Learner; what fastai warns of is its own affair."""
    vision = imports.fastai("vision.all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaders = vision.ImageDataLoaders.from_folder(
            photos, valid_pct=0.3, seed=0, item_tfms=vision.Resize(64), bs=4, num_workers=0
        )
        return vision.vision_learner(loaders, "test_convnext", pretrained=False)
