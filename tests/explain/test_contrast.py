import pytest
import torch

from mitate import Explainer
from mitate.errors import TargetError, UsageError
from mitate.explain.contrast import Contrast, checked_contrast
from mitate.explain.methods import METHODS
from mitate.models.classifier import Classifier
from oracles import networks

LOGITS = torch.tensor([[5.0, 1.0, 4.0, 4.5, -9.0], [0.0, 7.0, 1.0, 2.0, 3.0]])
CLASSES = torch.tensor([[0, 4], [1, 0]])


def classifier(name: str = "with relu", **options) -> Classifier:
    return Classifier.from_module(networks.make(name), **options)


def test_the_rivals_are_the_nearest_by_score() -> None:
    scores = Contrast()(LOGITS, CLASSES)
    expected = [
        [5 - (4.5 + 4 + 1) / 3, -9 - (1 + 4 + 4.5) / 3],
        [7 - (3 + 2 + 1) / 3, 0 - (1 + 2 + 3) / 3],
    ]
    torch.testing.assert_close(scores, torch.tensor(expected))


def test_one_rival_and_the_strength() -> None:
    scores = Contrast(rival=4, strength=0.5)(LOGITS, CLASSES)
    itself = -9 - 0.5 * (1 + 4 + 4.5) / 3
    expected = [[5 + 4.5, itself], [7 - 1.5, 0 - 1.5]]
    torch.testing.assert_close(scores, torch.tensor(expected))


def test_two_classes_have_one_rival() -> None:
    scores = Contrast()(LOGITS[:, :2], torch.tensor([[0, 1], [0, 1]]))
    torch.testing.assert_close(scores, torch.tensor([[4.0, -4], [-7, 7]]))


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "shapleycam", "smoothgradcampp"])
def test_against_a_class_is_the_difference_of_their_scores(method: str) -> None:
    images, named = networks.make_images(3), classifier(classes=["a", "b", "c", "d", "e"])
    ours = Explainer(named, method, "tapped", against="d", show_progress=False)
    by_hand = Explainer(named, method, "tapped", show_progress=False)
    torch.testing.assert_close(
        ours(images, targets=[1, 1, 1]).maps,
        by_hand(images, targets=lambda logits: logits[:, 1] - logits[:, 3]).maps,
    )
    assert ours(images).options["against"] == "d"


def test_the_linear_part_of_gradcam() -> None:
    """Signed Grad-CAM is linear in the score: against nothing but shares, maps subtract."""
    images = networks.make_images(2)
    plain = Explainer(classifier(), "gradcam", "tapped", signed=True)(images, targets=[[2, 0]] * 2)
    against = Explainer(classifier(), "gradcam", "tapped", signed=True, against=0, strength=0.6)
    expected = plain.maps[:, :1] - 0.6 * plain.maps[:, 1:]
    torch.testing.assert_close(against(images, targets=[2, 2]).maps, expected)


@pytest.mark.parametrize("method", sorted(n for n, m in METHODS.items() if not m.contrasts))
def test_methods_that_look_at_scores_say_what_to_do(method: str) -> None:
    with pytest.raises(UsageError, match="use a method of gradients"):
        Explainer(classifier(), method, "tapped", against=0)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(TargetError, match="is no class"):
        Explainer(classifier(), "gradcam", "tapped", against="rust")
    with pytest.raises(UsageError, match="nothing to compare"):
        checked_contrast("nearest", 1.0, ["only"])
    explainer = Explainer(classifier(), "gradcam", "tapped", against="nearest")
    with pytest.raises(TargetError, match="against are of classes"):
        explainer(networks.make_images(1), targets=lambda logits: logits[:, 0])
    assert checked_contrast("nearest", 1.0, ["far", "nearest"]) == Contrast(1)
