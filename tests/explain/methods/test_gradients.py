import pytest
import torch

from mitate.explain.explainer import Explainer
from mitate.explain.fusion import fused
from mitate.models.classifier import Classifier
from mitate.tensors import relative_to_maximum
from oracles import gradients, maps, networks

ORACLES = {
    "gradcam": maps.gradcam,
    "hirescam": gradients.hirescam,
    "elementwise": gradients.elementwise,
    "layercam": gradients.layercam,
    "xgradcam": gradients.xgradcam,
    "gradcampp": gradients.gradcampp,
    "shapleycam": gradients.shapleycam,
}


def explainer(network: networks.Halves, method: str = "gradcam", **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, method, network.layer, **options)


@pytest.mark.parametrize("name", networks.MAKERS)
@pytest.mark.parametrize("method", ORACLES)
def test_is_the_oracles(method: str, name: str) -> None:
    network, images = networks.make(name, seed=1), networks.make_images(2, seed=1)
    explanation = explainer(network, method)(images, targets=[[0, 1, 2, 3, 4]] * 2)
    near = 1e-6 if method == "shapleycam" else 1e-9
    for i, image in enumerate(images):
        for target in range(networks.CLASSES):
            expected = torch.tensor(ORACLES[method](network, image, target), dtype=torch.float64)
            torch.testing.assert_close(
                explanation.maps[i, target], expected, rtol=near, atol=near * 1e-2
            )
    assert explanation.maps.any()


def test_smoothgradcampp_is_the_oracles() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    explanation = explainer(network, "smoothgradcampp", samples=3, spread=0.2, seed=5)(
        images, targets=[[0, 3]] * 2
    )
    from mitate.tensors import generators

    for i, (image, generator) in enumerate(zip(images, generators(5, list(images)), strict=True)):
        size = 0.2 * (image.max() - image.min())
        noise = [
            size * torch.randn(image.shape, generator=generator, dtype=torch.float64)
            for _ in range(3)
        ]
        for j, target in enumerate((0, 3)):
            expected = gradients.smoothgradcampp(network, image, target, noise=noise)
            torch.testing.assert_close(
                explanation.maps[i, j], torch.tensor(expected, dtype=torch.float64)
            )
    assert explanation.maps.any()


def test_closed_form_after_global_average_pooling() -> None:
    network, images = networks.make("pooled"), networks.make_images()
    activations = network.before(images)
    cam = torch.einsum("kc,bchw->bkhw", network.head.weight, activations)
    cells = activations.shape[-2] * activations.shape[-1]
    every = [[0, 1, 2, 3, 4]] * 3
    for method in ("gradcam", "hirescam"):
        made = explainer(network, method)(images, targets=every).maps
        torch.testing.assert_close(made, (cam / cells).relu().detach())
    torch.testing.assert_close(
        explainer(network, "cam")(images, targets=every).maps, cam.relu().detach()
    )
    signed = explainer(network, "cam", signed=True)(images, targets=every)
    torch.testing.assert_close(signed.maps, cam.detach())
    # Completeness: the mean of the signed map and the bias are the logit.
    torch.testing.assert_close(signed.maps.mean((-2, -1)) + network.head.bias, signed.logits)


def test_xgradcams_sensitivity() -> None:
    """Fu et al. 2020: behind a linear head, the signed map adds up to the score less its bias."""
    network, images = networks.make("pooled"), networks.make_images(2)
    made = explainer(network, "xgradcam", signed=True)(images, targets=[[0, 1, 2, 3, 4]] * 2)
    torch.testing.assert_close(made.maps.sum((-2, -1)), made.logits - network.head.bias)


def test_principal_is_the_first_component_of_the_weighted_activations() -> None:
    network, images = networks.make("with relu"), networks.make_images(1)
    made = explainer(network, "hirescam", principal=True)(images, targets=[2]).maps[0, 0]
    channels, slopes = gradients.seen(network, images[0], 2)
    rows = (torch.tensor(channels) * torch.tensor(slopes)).double().flatten(1).T
    _, _, right = torch.linalg.svd(rows, full_matrices=False)
    flat = rows @ right[0]
    flat = flat if (flat * rows.sum(1)).sum() > 0 else -flat
    torch.testing.assert_close(made.flatten(), flat.relu(), atol=1e-5, rtol=1e-4)
    same = explainer(network, "eigengradcam")(images, targets=[2]).maps[0, 0]
    torch.testing.assert_close(made, same)


@pytest.mark.parametrize("fusion", ["max", "mean", "product"])
def test_several_layers_are_fused_on_the_finest_grid(fusion: str) -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    targets = [[0, 3]] * 2
    parts = [
        Explainer(classifier, "hirescam", layer)(images, targets=targets).maps
        for layer in ("stem", "tapped")
    ]
    together = Explainer(classifier, "hirescam", "stem + tapped", fusion=fusion)
    made = together(images, targets=targets)
    assert made.layer == "stem + tapped"
    assert made.maps.shape[-2:] == parts[0].shape[-2:]
    large = torch.nn.functional.interpolate(
        relative_to_maximum(parts[1]), parts[0].shape[-2:], mode="bilinear"
    )
    stack = torch.stack([relative_to_maximum(parts[0]), large])
    expected = {"max": stack.amax(0), "mean": stack.mean(0), "product": stack.prod(0)}[fusion]
    torch.testing.assert_close(made.maps, expected)
    torch.testing.assert_close(fused(parts, fusion), expected)
    listed = Explainer(classifier, "hirescam", [network.stem, "tapped"], fusion=fusion)
    torch.testing.assert_close(listed(images, targets=targets).maps, expected)


@pytest.mark.parametrize(("method", "passes"), [("gradcam", 2), ("layercam", 2), ("eigencam", 0)])
def test_one_backward_a_class_serves_all_layers(
    method: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    explain = Explainer(Classifier.from_module(network), method, "stem + tapped")
    done = []
    backward = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *given, **named: done.append(1) or backward(*given, **named)
    )
    made = explain(images, top_k=2)
    assert len(done) == passes
    assert made.cost == 1 + 2 * passes


def test_the_product_of_what_speaks_against_is_nothing() -> None:
    signed = [torch.tensor([[[[1.0, -2.0, 0.5]]]]), torch.tensor([[[[1.0, -1.0, -1.0]]]])]
    assert fused(signed, "product").tolist() == [[[[0.5, 0.0, 0.0]]]]
