"""The ImageNet MobileNetV2 on a photo of a dog and a cat; boxes were read off the picture."""

from pathlib import Path

import pytest
import torch

import mitate

pytestmark = pytest.mark.real

# left, top, right, bottom in pixels of the 224 x 224 photo
DOG = (77, 10, 170, 140)
CAT = (45, 120, 204, 224)
BULL_MASTIFF, BOXER, TABBY, TIGER_CAT = 243, 242, 281, 282


@pytest.fixture(scope="module")
def classifier(shared: Path) -> mitate.Classifier:
    weights = shared / "weights" / "mobilenetv2_100.imagenet1k.safetensors"
    loaded = mitate.Classifier.load(f"timm:mobilenetv2_100@{weights}")
    whole = mitate.Preprocessing(size=(224, 224), interpolation="bicubic")
    return mitate.Classifier.from_module(
        loaded.network, classes=loaded.class_names, preprocessing=whole
    )


def share(heat: torch.Tensor, box: tuple[int, int, int, int], other: tuple[int, ...]) -> float:
    """Energy in a box, without what lies in the other box too, of the energy in both."""
    inside, beside = torch.zeros(224, 224), torch.zeros(224, 224)
    for mask, (left, top, right, bottom) in ((inside, box), (beside, other)):
        mask[top:bottom, left:right] = 1
    own, others = (inside * (1 - beside), beside * (1 - inside))
    energy, rest = float((heat * own).sum()), float((heat * others).sum())
    return energy / (energy + rest)


@pytest.mark.parametrize("method", ["gradcam", pytest.param("scorecam", marks=pytest.mark.long)])
def test_a_dogs_map_lies_on_the_dog_and_a_cats_on_the_cat(
    shared: Path, classifier: mitate.Classifier, method: str
) -> None:
    explainer = mitate.Explainer(classifier, method)
    targets = [[BULL_MASTIFF, BOXER, TABBY, TIGER_CAT]]
    explanation = explainer(shared / "photos" / "both.png", targets=targets)
    heats = explanation.resize()[0]
    shares = [share(heats[i], DOG, CAT) for i in (0, 1)]
    shares += [share(heats[i], CAT, DOG) for i in (2, 3)]
    print(method, explanation.layer, [round(value, 3) for value in shares])
    assert min(shares) > 0.7
    assert not explanation.flags


@pytest.mark.long
@pytest.mark.parametrize(("layer", "most"), [("bn2", 1 / 8), ("blocks.4", 1.0)])
def test_scorecam_to_a_tolerance_tells_how_near_it_is(
    shared: Path, classifier: mitate.Classifier, layer: str, most: float
) -> None:
    photo = shared / "photos" / "both.png"
    exact = mitate.Explainer(classifier, "scorecam", layer)(photo, 1)
    made = mitate.Explainer(classifier, "scorecam", layer, tolerance=0.05)(photo, 1)
    told = made.estimate
    pair = torch.stack([made.maps.flatten(), exact.maps.flatten()])
    error = 1 - float(torch.corrcoef(pair)[0, 1])
    print(layer, int(told.scored), int(told.channels), float(told.error), error)
    assert error <= float(told.error) + 1e-6 <= 0.05 + 1e-6
    assert int(told.scored) <= most * int(told.channels)
    assert made.cost == 1 + int(told.scored)
    assert exact.cost == 1 + int(told.channels)


@pytest.mark.long
def test_loupe_lies_on_the_dog(shared: Path, classifier: mitate.Classifier) -> None:
    made = mitate.Explainer(classifier, "loupe")(
        shared / "photos" / "both.png", targets=[BULL_MASTIFF]
    )
    assert made.layer == "blocks.1 + bn2"
    assert made.cost <= 183
    assert share(made.resize()[0, 0], DOG, CAT) > 0.9
    assert not made.flags
