import pytest
import torch

from mitate import Explainer
from mitate.explain.augmentation import VARIANTS
from mitate.explain.flags import UNSEEN
from mitate.models.classifier import Classifier
from oracles import networks


def explainer(method: str = "gradcam", **options) -> Explainer:
    classifier = Classifier.from_module(networks.make("with relu"))
    return Explainer(classifier, method, "tapped", show_progress=False, **options)


@pytest.mark.parametrize("method", ["gradcam", "eigencam", "scorecam", "edges"])
def test_it_is_the_mean_over_the_variants(method: str) -> None:
    images, plain = networks.make_images(2), explainer(method)
    smooth = explainer(method, augment=True)(images, targets=[[1, 2]] * 2)
    maps = []
    for factor in (0.9, 1.0, 1.1):
        maps.append(plain(factor * images, targets=[[1, 2]] * 2).maps)
        mirrored = plain((factor * images).flip(-1), targets=[[1, 2]] * 2).maps
        maps.append(mirrored.flip(-1))
    torch.testing.assert_close(smooth.maps, torch.stack(maps).mean(0))
    assert smooth.cost == pytest.approx(6 * plain(images, targets=[[1, 2]] * 2).cost)
    assert smooth.options["augment"] is True


def test_the_prediction_is_the_images_own() -> None:
    images = networks.make_images(3)
    plain, smooth = explainer()(images), explainer(augment=True)(images)
    assert torch.equal(plain.classes, smooth.classes)
    torch.testing.assert_close(plain.logits, smooth.logits)
    assert VARIANTS[0] == (1.0, False)


def test_batch_is_loop() -> None:
    images, smooth = networks.make_images(3), explainer(augment=True, batch_size=2)
    together = smooth(images)
    for index in range(3):
        alone = smooth(images[index : index + 1])
        torch.testing.assert_close(together[index].maps, alone.maps)


def test_the_bars_advance_adds_up(monkeypatch) -> None:
    steps: list[float] = []
    made = explainer("scorecam", augment=True)

    class Bar:
        def __enter__(self):
            return steps.append

        def __exit__(self, *error) -> None:
            return None

    monkeypatch.setattr(made, "_progress", lambda inputs: Bar())
    made(networks.make_images(2))
    assert sum(steps) == pytest.approx(2)


def test_a_map_without_gradients_says_so_too() -> None:
    classifier = Classifier.from_module(networks.make("with relu"))
    classifier.network.head.weight.data.zero_()
    images = networks.make_images(1)
    reasons = [
        Explainer(classifier, "gradcam", "tapped", augment=augment)(images, 1).flags[0].reason
        for augment in (False, True)
    ]
    assert reasons == [UNSEEN, UNSEEN]
