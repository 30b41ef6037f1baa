"""The same maps as pinned peers on the same network, where the peers are right."""

import warnings

import pytest
import torch
from torch import nn

from mitate import imports
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.tensors import relative_to_maximum, resize_maps, to_unit_range
from oracles import networks

NAMES = ("with relu", "pooled", "convolutions")


def maps(name: str, method: str = "gradcam", **options) -> torch.Tensor:
    network = networks.make(name)
    explainer = Explainer(Classifier.from_module(network, classes=5), method, "tapped", **options)
    return explainer(networks.make_images(2), targets=[[0, 3]] * 2).maps


@pytest.fixture(scope="module")
def torchcam():
    imports.torchvision()
    return pytest.importorskip("torchcam.methods", reason="torchcam is not installed")


@pytest.fixture(scope="module")
def pytorch_grad_cam():
    imports.torchvision()
    return pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")


def torchcams(extractor, network: nn.Module, place: int, target: int) -> torch.Tensor:
    logits = network(networks.make_images(2)[place : place + 1])
    (found,) = extractor(target, logits, normalized=False)
    extractor.remove_hooks()
    return found[0]


def grad_cams(peers, kind: str, name: str, target: int, **options) -> torch.Tensor:
    """A peer's map on the layer's own grid, before it is scaled and enlarged."""
    network, kept = networks.make(name), []
    handle = network.tapped.register_forward_hook(lambda module, args, given: kept.append(given))
    images = networks.make_images(2)
    score = network(images)[:, target].sum()
    handle.remove()
    (slopes,) = torch.autograd.grad(score, kept, create_graph=True)
    made, of = kept[0], [target] * 2
    if kind != "ShapleyCAM":
        made, slopes = made.detach().numpy(), slopes.detach().numpy()
    with getattr(peers, kind)(network, [network.tapped], **options) as cam:
        found = cam.get_cam_image(images, network.tapped, of, made, slopes, False)
    return torch.as_tensor(found).relu()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("GradCAM", "gradcam"),
        ("XGradCAM", "xgradcam"),
        ("LayerCAM", "layercam"),
    ],
)
def test_is_torchcams(torchcam, kind: str, method: str, name: str) -> None:
    ours = maps(name, method)
    for place in range(2):
        for index, target in enumerate((0, 3)):
            network = networks.make(name)
            extractor = getattr(torchcam, kind)(network, "tapped")
            theirs = torchcams(extractor, network, place, target).detach()
            torch.testing.assert_close(ours[place, index], theirs, rtol=1e-5, atol=1e-7)


def test_cam_is_torchcams_which_keeps_what_speaks_against(torchcam) -> None:
    ours = maps("pooled", "cam", signed=True)
    for place in range(2):
        network = networks.make("pooled")
        extractor = torchcam.CAM(network, "tapped", "head")
        theirs = torchcams(extractor, network, place, 3).detach()
        torch.testing.assert_close(ours[place, 1], theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("GradCAM", "gradcam"),
        ("HiResCAM", "hirescam"),
        ("GradCAMElementWise", "elementwise"),
        ("XGradCAM", "xgradcam"),
        ("LayerCAM", "layercam"),
        ("ShapleyCAM", "shapleycam"),
    ],
)
def test_is_grad_cams(pytorch_grad_cam, kind: str, method: str, name: str) -> None:
    ours = maps(name, method)
    for index, target in enumerate((0, 3)):
        theirs = grad_cams(pytorch_grad_cam, kind, name, target)
        torch.testing.assert_close(ours[:, index], theirs, rtol=1e-5, atol=1e-6)


def test_gradcampp_is_grad_cams_without_its_epsilon(pytorch_grad_cam) -> None:
    """Their 1e-6 beside squares of gradients decides where gradients are as small as these."""
    ours = relative_to_maximum(maps("with relu", "gradcampp"))[:, 1]
    network, images = networks.make("with relu"), networks.make_images(2)
    theirs = grad_cams(pytorch_grad_cam, "GradCAMPlusPlus", "with relu", 3)
    far = (ours - relative_to_maximum(theirs[:, None])[:, 0]).abs().max()
    with torch.no_grad():  # the same network with scores, and so gradients, a thousand times larger
        network.head.weight *= 1000
    larger = Explainer(Classifier.from_module(network, classes=5), "gradcampp", "tapped")
    steep = larger(images, targets=[3, 3]).maps
    kept: list[torch.Tensor] = []
    network.tapped.register_forward_hook(lambda module, args, given: kept.append(given))
    (slopes,) = torch.autograd.grad(network(images)[:, 3].sum(), kept)
    with pytorch_grad_cam.GradCAMPlusPlus(network, [network.tapped]) as cam:
        theirs = cam.get_cam_image(
            images, network.tapped, [3, 3], kept[0].detach().numpy(), slopes.numpy(), False
        )
    expected = torch.as_tensor(theirs).relu()
    near = (steep[:, 0] - expected).abs().max() / expected.max()
    assert near < 1e-5
    assert far > 100 * near


def test_torchcams_gradcampp_takes_the_cube(torchcam) -> None:
    """It divides a copy: what weights the channels is the positive gradient's third power."""
    network, kept = networks.make("with relu"), []
    network.tapped.register_forward_hook(lambda module, args, given: kept.append(given))
    score = network(networks.make_images(2)[:1])[0, 3]
    (slopes,) = torch.autograd.grad(score, kept)
    cubes = slopes.relu().pow(3).sum((-2, -1), keepdim=True)
    fresh = networks.make("with relu")
    extractor = torchcam.GradCAMpp(fresh, "tapped")
    found = torchcams(extractor, fresh, 0, 3).detach()
    torch.testing.assert_close(found, (cubes * kept[0]).sum(1)[0].relu().detach())


def test_grad_cams_eigencam_centres(pytorch_grad_cam) -> None:
    """The paper decomposes the activations as they are; theirs has each cell's mean taken off."""
    kept: list[torch.Tensor] = []
    network = networks.make("with relu")
    network.tapped.register_forward_hook(lambda module, args, given: kept.append(given))
    network(networks.make_images(2))
    cells = kept[0].detach().flatten(2).mT
    _, _, directions = torch.linalg.svd(cells - cells.mean(1, keepdim=True))
    expected = (cells - cells.mean(1, keepdim=True)) @ directions[:, 0, :, None]
    theirs = grad_cams_plain(pytorch_grad_cam, kept[0].detach())
    torch.testing.assert_close(expected[..., 0].abs().float(), theirs.flatten(1).abs())


def grad_cams_plain(peers, activations: torch.Tensor) -> torch.Tensor:
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    return torch.as_tensor(get_2d_projection(activations.numpy()))


def test_grad_cams_fem_counts_without_the_mean(pytorch_grad_cam) -> None:
    """The paper weights where a channel is high by its mean; theirs weights all of the channel."""
    ours = maps("with relu", "fem", deviations=1.0)[:, 0]
    theirs = grad_cams(pytorch_grad_cam, "FEM", "with relu", 0, k=1)
    assert not torch.allclose(relative_to_maximum(ours[:, None])[:, 0], theirs / theirs.max())


@pytest.mark.parametrize("name", NAMES)
def test_gradcam_is_grad_cams_when_enlarged(pytorch_grad_cam, name: str) -> None:
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    ours = to_unit_range(resize_maps(maps(name), networks.SIZE))
    for index, target in enumerate((0, 3)):
        network = networks.make(name)
        with pytorch_grad_cam.GradCAM(network, [network.tapped]) as cam:
            theirs = cam(networks.make_images(2), [ClassifierOutputTarget(target)] * 2)
        # It scales before it enlarges, by OpenCV in float32, with 1e-7 in the divisor.
        expected = to_unit_range(torch.from_numpy(theirs).double())
        torch.testing.assert_close(ours[:, index], expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", ["with relu", "convolutions"])
def test_the_channel_softmax_is_what_grad_cam_calls_score_cam(pytorch_grad_cam, name: str) -> None:
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = networks.make(name)
    with torch.no_grad():  # a constant channel adds a constant to their map
        network.tapped.bias[1] = 0
    images = networks.make_images(2)
    explainer = Explainer(
        Classifier.from_module(network, classes=5), "scorecam", "tapped", channel_softmax=True
    )
    ours = to_unit_range(resize_maps(explainer(images, targets=[3, 3]).maps, networks.SIZE))
    with pytorch_grad_cam.ScoreCAM(network, [network.tapped]) as cam:
        theirs = cam(images, [ClassifierOutputTarget(3)] * 2)
    expected = to_unit_range(torch.from_numpy(theirs).double())
    torch.testing.assert_close(ours[:, 0], expected, atol=2e-3, rtol=0)


def test_kpcacam_is_grad_cams_but_for_its_sign(pytorch_grad_cam) -> None:
    for kernel in ("sigmoid", "rbf", "poly"):
        ours = maps("with relu", "kpcacam", kernel=kernel, signed=True)[:, 0]
        theirs = grad_cams_kernel(pytorch_grad_cam, kernel)
        torch.testing.assert_close(ours.abs().float(), theirs.abs(), rtol=1e-4, atol=1e-6)


def grad_cams_kernel(peers, kernel: str) -> torch.Tensor:
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_kernel

    network = networks.make("with relu")
    activations = network.before(networks.make_images(2)).detach().numpy()
    return torch.as_tensor(get_2d_projection_kernel(activations, kernel))


def test_grad_cams_fullgrad_does_not_see_how_large_a_bias_is(pytorch_grad_cam) -> None:
    """It scales each channel to [0, 1] by itself, where paper and authors' code scale the layer."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network, images = networks.make("with relu").float(), networks.make_images(2).float()
    theirs = []
    for share in (1.0, 100.0):  # a smaller one would meet their epsilon
        with pytorch_grad_cam.FullGrad(network, []) as cam:
            cam.bias_data[0] = cam.bias_data[0].copy()
            cam.bias_data[0][0] *= share
            theirs.append(torch.as_tensor(cam(images, [ClassifierOutputTarget(3)] * 2)))
    assert (theirs[0] - theirs[1]).abs().max() < 0.01 * theirs[0].max()


@pytest.fixture
def captum():
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    with warnings.catch_warnings():  # it warns of the hooks and of the gradients that it asks for
        warnings.simplefilter("ignore")
        yield attr


@pytest.mark.parametrize("name", NAMES)
def test_pixels_are_captums(captum, name: str) -> None:
    network, images = networks.make(name), networks.make_images(2)
    of = torch.tensor([3, 3])
    saliency = captum.Saliency(network).attribute(images.clone(), target=of)
    torch.testing.assert_close(maps(name, "gradient")[:, 1], saliency.amax(1))
    times = captum.InputXGradient(network).attribute(images.clone(), target=of)
    torch.testing.assert_close(maps(name, "inputxgradient", signed=True)[:, 1], times.sum(1))
    path = captum.IntegratedGradients(network).attribute(images.clone(), target=of, n_steps=9)
    ours = maps(name, "integratedgradients", signed=True, steps=9)[:, 1]
    torch.testing.assert_close(ours, path.sum(1), rtol=1e-5, atol=1e-7)  # its weights are float32


def test_guidedgradcam_is_captums_enlarged_bilinearly(captum) -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    ours = maps("with relu", "guidedgradcam", signed=True)[:, 1]
    theirs = captum.GuidedGradCam(network, network.tapped)
    of = torch.tensor([3, 3])
    found = theirs.attribute(images.clone(), target=of, interpolate_mode="bilinear")
    torch.testing.assert_close(ours, found.sum(1))


def test_captums_guided_gradients_are_plain_ones_without_a_relu(captum) -> None:
    """It looks for modules of one kind, and says nothing where there are none: ours refuses."""
    network, images = networks.make("convolutions"), networks.make_images(2)
    guided = captum.GuidedBackprop(network).attribute(images.clone(), target=3)
    plain = captum.Saliency(network).attribute(images.clone(), target=3, abs=False)
    assert torch.equal(guided, plain)


@pytest.mark.parametrize("layers", [1, 3])
def test_legrad_is_torchcams_added_up_instead_of_averaged(torchcam, layers: int) -> None:
    torch.manual_seed(0)
    network = imports.torchvision("models").VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=3,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=24,
        num_classes=5,
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    network, images = network.double().eval(), torch.randn(2, 3, 32, 32).double()
    ours = Explainer(network, "legrad", blocks=layers)(images, targets=[3, 3]).maps[:, 0]
    for place in range(2):
        with torchcam.LeGrad(network, list(network.encoder.layers)[-layers:]) as extractor:
            logits = network(images[place : place + 1])
            found = extractor(3, logits, normalized=False)
        theirs = torch.stack([one[0] for one in found]).sum(0)
        torch.testing.assert_close(ours[place], theirs * (layers if len(found) == 1 else 1))
