"""Full gradients add up to the score: Srinivas and Fleuret 2019, proposition 1."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from mitate import Explainer, imports
from mitate.errors import UsageError
from mitate.explain.biases import BENDING, BiasTap, FullGradient, _bent, full_gradient
from mitate.explain.tap import tapped_forward
from mitate.models.classifier import Classifier
from oracles import networks


def taken_apart(network: nn.Module, images: Tensor, target: int) -> tuple[FullGradient, Tensor]:
    tap = BiasTap()
    forward = tapped_forward(
        network, images, [], read=lambda out: out, gradients=True, pixels=True, watch=tap
    )
    places = (get_gradient_edge(forward.activations[0]), *(bias.place for bias in tap.kept))
    slope, *slopes = forward.slopes_at(forward.logits[:, target], places)
    assert slope is not None
    return full_gradient(images, slope, tap.kept, slopes, (0,)), forward.logits[:, target].detach()


@pytest.mark.parametrize("name", ["with relu", "with relu in place", "pooled", "channels last"])
def test_completeness(name: str) -> None:
    found, logits = taken_apart(networks.make(name), networks.make_images(3), 2)
    torch.testing.assert_close(found.total, logits, rtol=1e-9, atol=1e-10)
    assert (found.rest != 0).all()


SMALL = {
    "mobilenetv2_100": 64,
    "resnet18": 64,
    "vgg11_bn": 32,
    "convnext_atto": 64,
    "regnetx_002": 64,
}


@pytest.mark.parametrize("name", SMALL)
def test_completeness_of_timms(name: str) -> None:
    """Batch norms with activations inside, ReLU6 and what is complete without being linear."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = imports.timm().create_model(name, num_classes=5).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.bias, std=0.3)
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
        images = torch.randn(2, 3, SMALL[name], SMALL[name])
    found, logits = taken_apart(network, images, 1)
    assert (found.total - logits).abs().max() < 1e-4 * logits.abs().max()
    assert len(found.spatial) > 5


def test_products_of_activations_have_no_bias() -> None:
    """Squeeze and excitation multiplies: the sum is then not the score, and nothing hides it."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.gate = nn.Conv2d(3, 5, 4, stride=4), nn.Conv2d(5, 5, 1)

        def forward(self, images: Tensor) -> Tensor:
            seen = self.stem(images)
            return (seen * self.gate(seen.mean((-2, -1), keepdim=True)).sigmoid()).mean((-2, -1))

    torch.manual_seed(0)
    found, logits = taken_apart(Gated().double(), networks.make_images(2), 0)
    assert ((found.total - logits).abs() > 1e-3 * logits.abs()).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("function", sorted(BENDING, key=lambda function: function.__name__))
def test_what_bends_adds_its_value_less_its_tangent(function, dtype: torch.dtype) -> None:
    start = torch.linspace(-8, 8, 101, dtype=dtype)
    leaf = start.clone().requires_grad_()
    value = function(leaf.clone())
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    torch.testing.assert_close(_bent(function, (start,), {}), value.detach() - slope * start)


def test_what_bends_in_place_is_told_so_in_any_way() -> None:
    start = torch.linspace(-8, 8, 101, dtype=torch.float64)
    expected = _bent(F.elu, (start,), {})
    torch.testing.assert_close(_bent(F.elu, (start, 1.0, True), {}), expected)
    torch.testing.assert_close(_bent(F.elu, (start,), {"inplace": True}), expected)
    assert torch.equal(start, torch.linspace(-8, 8, 101, dtype=torch.float64))


@pytest.mark.parametrize("function", [F.layer_norm, F.group_norm])
def test_norms_add_all_but_their_epsilons_part(function) -> None:
    """A norm gives the same for twice the input, so its tangent through zero is nearly flat."""
    start = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = ((6,),) if function is F.layer_norm else (2,)
    value = function(start, *given, eps=0.0)
    torch.testing.assert_close(_bent(function, (start, *given), {"eps": 0.0}), value)


@pytest.mark.parametrize("shape", [(6,), (4, 6)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_layer_norm_adds_its_value_less_its_tangent(shape: tuple[int, ...], biased: bool) -> None:
    drawn = torch.Generator().manual_seed(0)
    start, weight, bias = (
        torch.randn(size, generator=drawn, dtype=torch.float64)
        for size in ((2, 4, 6), shape, shape)
    )
    given = (shape, weight, bias if biased else None, 0.5)
    value, along = torch.autograd.functional.jvp(lambda x: F.layer_norm(x, *given), start, start)
    torch.testing.assert_close(_bent(F.layer_norm, (start, *given), {}), value - along)


@pytest.mark.real
def test_completeness_on_a_photo(shared) -> None:
    from PIL import Image

    weights = shared / "weights" / "mobilenetv2_100.imagenet1k.safetensors"
    classifier = Classifier.load(f"timm:mobilenetv2_100@{weights}")
    photo = Image.open(shared / "photos" / "both.png").convert("RGB")
    explain = Explainer(classifier, "fullgrad", signed=True)
    explanation = explain([photo], top_k=1)
    top = int(explanation.classes[0, 0])
    found, logits = taken_apart(classifier.network, classifier.inputs([photo]), top)
    assert (found.total - logits).abs() < 1e-4 * logits.abs()
    inside = float(explanation.maps.sum() + found.rest)
    assert abs(inside - float(logits)) < 1e-3 * float(logits.abs())


def test_what_is_added_to_weights_alone_is_left_out_of_a_batch_of_one_too() -> None:
    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of_images, self.of_places = nn.Conv2d(3, 4, 3), nn.Conv2d(2, 4, 1)
            self.register_buffer("places", torch.rand(1, 2, 10, 10))
            self.head = nn.Linear(4, 3)

        def forward(self, images: Tensor) -> Tensor:
            found = self.of_images(images) + self.of_places(self.places)
            return self.head(found.relu().mean((-2, -1)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, images = Placed().double(), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    explain = Explainer(network, "fullgrad")
    together = explain(images, targets=[1, 1]).maps
    alone = torch.cat([explain(image[None], targets=[1]).maps for image in images])
    torch.testing.assert_close(alone, together)


class Routed(nn.Module):
    """Each image goes through one of two convolutions, by its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.ways = nn.ModuleList(nn.Conv2d(3, 4, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        way = (images.mean((1, 2, 3)) > 0).long()
        out = images.new_zeros(len(images), 4, *images.shape[2:])
        for number, convolution in enumerate(self.ways):
            chosen = (way == number).nonzero()[:, 0]
            out[chosen] = F.relu(convolution(images[chosen]))
        return self.head(out.mean((2, 3)))


def test_images_that_go_different_ways_are_explained_alone_or_refused() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, images = Routed().double().eval(), torch.randn(2, 3, 8, 8).double()
    images += torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    with pytest.raises(UsageError, match="batch_size=1"):
        Explainer(network, "fullgrad", signed=True)(images, targets=[0, 1])
    made = Explainer(network, "fullgrad", signed=True, batch_size=1)(images, targets=[0, 1])
    logits = network(images).detach()
    wanted = torch.stack([logits[0, 0], logits[1, 1]]) - network.head.bias[:2].detach()
    torch.testing.assert_close(made.maps.sum((-2, -1))[:, 0], wanted)
    alike = Explainer(network, "fullgrad", signed=True)(images.abs(), targets=[0, 1])
    assert len(alike.maps) == 2
