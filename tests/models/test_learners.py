"""fastai and the libraries under it warn of their own old ways; those warnings are not ours."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mitate import imports
from mitate.errors import ClassifierError, MitateWarning
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.models.learners import is_learner

pytest.importorskip("fastai", reason="fastai is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = ("blast", "normal", "tungro")
BODIES = ("convnext_atto", "resnet18")


@pytest.fixture(scope="module")
def vision():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return imports.fastai("vision.all")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in NAMES:
        (root / name).mkdir()
        for index in range(4):
            pixels = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((120, 90), Image.Resampling.BICUBIC)
            image.save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def learner(vision, photos: Path):
    """learner("resnet18", item_tfms=...): untrained, 64 px, on twelve made photos."""

    def make(body: str = "resnet18", normalize: bool = True, **loading):
        loading.setdefault("item_tfms", vision.Resize(64, method="squish"))
        stats = vision.Normalize.from_stats(*vision.imagenet_stats)
        loading.setdefault("batch_tfms", [stats] if normalize else [])
        loaders = vision.ImageDataLoaders.from_folder(
            photos, valid_pct=0.5, seed=0, bs=4, num_workers=0, **loading
        )
        architecture = getattr(vision, body, body)
        torch.manual_seed(0)
        return vision.vision_learner(loaders, architecture, pretrained=False, normalize=False)

    return make


def predicted(learner, paths: list[Path]) -> torch.Tensor:
    with learner.no_bar():
        loader = learner.dls.test_dl(paths)
        probabilities, _ = learner.get_preds(dl=loader)
    return probabilities


@pytest.mark.parametrize("body", BODIES)
def test_a_learner_gives_what_fastai_predicts(learner, photos: Path, body: str) -> None:
    learn = learner(body)
    classifier = Classifier.from_learner(learn)
    assert classifier.class_names == NAMES
    assert classifier.preprocessing.size == (64, 64)
    assert classifier.preprocessing.resize == "squash"
    assert classifier.preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))
    paths = sorted(photos.rglob("*.png"))
    inputs = classifier.inputs([Image.open(path) for path in paths])
    ours = classifier.logits(inputs).softmax(1)
    torch.testing.assert_close(ours, torch.Tensor(predicted(learn, paths)), atol=2e-3, rtol=0)


def test_the_loss_tells_whether_several_classes_can_be_true(learner, vision) -> None:
    learn = learner()
    assert Classifier.from_learner(learn).task == "single-label"
    learn.loss_func = vision.BCEWithLogitsLossFlat()
    assert Classifier.from_learner(learn).task == "multi-label"


@pytest.mark.parametrize("body", BODIES)
def test_a_learner_is_explained_and_left_as_it_was(learner, photos: Path, body: str) -> None:
    learn = learner(body)
    learn.model.train()
    explanation = Explainer(learn)(sorted(photos.rglob("*.png"))[:2])
    assert explanation.maps.shape[:2] == (2, 3)
    assert learn.model.training
    if body == "convnext_atto":
        for name in ("stages.2.blocks.-1.conv_dw", "0.model.stages.2.blocks.-1.conv_dw"):
            explainer = Explainer(learn, layer=name)
            assert explainer(torch.randn(1, 3, 64, 64)).layer == "0.model.stages.2.blocks.5.conv_dw"


@pytest.mark.parametrize("body", BODIES)
def test_a_learner_is_saved_without_fastai(learner, tmp_path: Path, body: str) -> None:
    classifier = Classifier.from_learner(learner(body))
    classifier.save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(loaded.logits(images), classifier.logits(images))
    assert loaded.preprocessing == classifier.preprocessing
    kinds = {type(module).__module__.split(".")[0] for module in loaded.network.modules()}
    assert "fastai" not in kinds


@pytest.mark.parametrize(
    ("method", "resize"), [("squish", "squash"), ("crop", "crop"), ("pad", "pad")]
)
def test_the_resize_method(learner, vision, method: str, resize: str) -> None:
    transform = vision.Resize((48, 64), method=method, pad_mode="zeros")
    settings = Classifier.from_learner(learner(item_tfms=transform)).preprocessing
    assert (settings.size, settings.resize) == ((48, 64), resize)


def test_the_last_size_counts(learner, vision) -> None:
    learn = learner(item_tfms=vision.Resize(100), batch_tfms=vision.aug_transforms(size=(48, 64)))
    assert Classifier.from_learner(learn).preprocessing.size == (48, 64)


def test_random_crops_are_the_middle_of_a_larger_photo(learner, vision) -> None:
    learn = learner(item_tfms=vision.RandomResizedCrop(64))
    settings = Classifier.from_learner(learn).preprocessing
    assert (settings.size, settings.resize) == ((64, 64), "squash")
    assert settings.crop_fraction == pytest.approx(64 / 80)


def resizings(vision) -> dict[str, object]:
    return {
        "squish": vision.Resize(64, method="squish"),
        "crop": vision.Resize((48, 64)),
        "nearest": vision.Resize(64, method="squish", resamples=(Image.Resampling.NEAREST, 0)),
        "reflected": vision.Resize((64, 96), method="pad"),
        "on black": vision.Resize((64, 96), method="pad", pad_mode="zeros"),
        "drawn out": vision.Resize((64, 96), method="pad", pad_mode="border"),
        "random crop": vision.RandomResizedCrop(64),
    }


@pytest.mark.parametrize(
    "kind", ["squish", "crop", "nearest", "reflected", "on black", "drawn out", "random crop"]
)
def test_the_input_is_that_of_fastai(learner, vision, photos: Path, kind: str) -> None:
    learn = learner(item_tfms=resizings(vision)[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error", MitateWarning)
        classifier = Classifier.from_learner(learn)
    paths = sorted(photos.rglob("*.png"))[:4]
    (theirs,) = learn.dls.test_dl(paths, bs=4).one_batch()
    mine = classifier.inputs([Image.open(path) for path in paths])
    apart = (mine - torch.Tensor(theirs.cpu())).abs().mean()
    assert apart < 0.05, float(apart)  # smooth photos, and half a pixel of rounding


def test_what_a_learner_does_besides_is_told(learner, vision) -> None:
    class Grey(vision.Transform):
        def encodes(self, image: vision.PILImage):
            return vision.PILImage.create(image.convert("L").convert("RGB"))

    learn = learner(item_tfms=[vision.Resize(64), Grey()])
    before = learn.dls.valid.after_item.split_idx
    with pytest.warns(MitateWarning, match=r"something else than .* differs from fastai's"):
        Classifier.from_learner(learn)
    assert learn.dls.valid.after_item.split_idx == before
    two = learner(item_tfms=vision.Resize((96, 64)), batch_tfms=vision.aug_transforms(size=64))
    with pytest.warns(MitateWarning, match="something else"):
        Classifier.from_learner(two)


def test_transforms_of_photo_and_label_together(learner, vision) -> None:
    class Both(vision.ItemTransform):
        def encodes(self, pair):
            image, label = pair
            return image, label

    class Failing(vision.ItemTransform):
        order = 100

        def encodes(self, pair):
            raise KeyError("a column")

    with warnings.catch_warnings():
        warnings.simplefilter("error", MitateWarning)
        Classifier.from_learner(learner(item_tfms=[Both(), vision.Resize(64, method="squish")]))
    made = learner()
    state = torch.get_rng_state()
    made.dls.valid.after_item.fs.append(Failing())
    with pytest.warns(MitateWarning, match="could not be tried on a photo"):
        assert Classifier.from_learner(made).preprocessing.size == (64, 64)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_grey_learner(vision, photos: Path) -> None:
    block = vision.DataBlock(
        (vision.ImageBlock(vision.PILImageBW), vision.MultiCategoryBlock),
        get_items=vision.get_image_files,
        get_y=lambda path: [path.parent.name],
        item_tfms=vision.Resize(64, method="squish"),
    )
    loaders = block.dataloaders(photos, bs=4, num_workers=0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    ).append(torch.nn.Linear(4, 3))
    learn = vision.Learner(loaders, network, loss_func=torch.nn.MultiLabelSoftMarginLoss())
    with warnings.catch_warnings():
        warnings.simplefilter("error", MitateWarning)
        classifier = Classifier.from_learner(learn)
    assert classifier.preprocessing.mean == (0.0,)
    assert classifier.task == "multi-label"
    path = sorted(photos.rglob("*.png"))[0]
    made = Explainer(classifier)([path], top_k=1)
    expected = predicted(learn, [path]).sigmoid()
    torch.testing.assert_close(made.logits.sigmoid(), torch.Tensor(expected), atol=1e-4, rtol=0)


def test_without_normalisation(learner) -> None:
    settings = Classifier.from_learner(learner(normalize=False)).preprocessing
    assert (settings.mean, settings.std) == ((0, 0, 0), (1, 1, 1))


def test_what_cannot_be_understood_is_told(learner, vision) -> None:
    with pytest.raises(ClassifierError, match="CropPad cuts images without resizing"):
        Classifier.from_learner(learner(item_tfms=vision.CropPad(64)))
    learn = learner()
    learn.dls.valid.after_item.fs.clear()
    with pytest.raises(ClassifierError, match="does not resize its images"):
        Classifier.from_learner(learn)


def test_what_is_a_learner(learner) -> None:
    assert is_learner(learner())
    assert not is_learner(torch.nn.Linear(2, 2))
    with pytest.raises(ClassifierError, match="no fastai Learner"):
        Classifier.from_learner(object())
