import copy

import pytest
import torch
from torch import nn

from mitate.errors import LayerError, UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.methods import METHODS
from mitate.models.classifier import Classifier
from oracles import decompositions, gradients, networks


def explainer(network: nn.Module, method: str, layer: str, **options) -> Explainer:
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    return Explainer(classifier, method, layer, **options)


@pytest.mark.parametrize("name", networks.MAKERS)
def test_eigencam_is_the_oracles(name: str) -> None:
    network, images = networks.make(name), networks.make_images(2)
    made = explainer(network, "eigencam", network.layer)(images, top_k=2).maps
    for image, of in zip(images, made, strict=True):
        expected = torch.tensor(gradients.eigencam(network, image), dtype=torch.float64)
        torch.testing.assert_close(of, expected.expand_as(of), atol=1e-9, rtol=1e-8)


@pytest.mark.parametrize("deviations", [2.0, 0.5])
@pytest.mark.parametrize("name", ["with relu", "channels last", "tokens"])
def test_fem_is_the_oracles(name: str, deviations: float) -> None:
    network, images = networks.make(name), networks.make_images(2)
    made = explainer(network, "fem", network.layer, deviations=deviations)(images, top_k=2).maps
    for image, of in zip(images, made, strict=True):
        expected = gradients.fem(network, image, deviations=deviations)
        torch.testing.assert_close(of, torch.tensor(expected, dtype=torch.float64).expand_as(of))


@pytest.mark.parametrize("kernel", ["sigmoid", "rbf", "poly", "linear"])
@pytest.mark.parametrize("name", ["with relu", "channels last", "tokens"])
def test_kpcacam_is_the_oracles(name: str, kernel: str) -> None:
    network, images = networks.make(name), networks.make_images(2)
    channels = network.grid(network.before(images)).shape[1]
    for gamma in (0.0, 0.3):
        explain = explainer(network, "kpcacam", network.layer, kernel=kernel, gamma=gamma)
        made = explain(images, top_k=2).maps
        for image, of in zip(images, made, strict=True):
            expected = torch.tensor(
                decompositions.kpcacam(network, image, kernel=kernel, gamma=gamma or 1 / channels),
                dtype=torch.float64,
            )
            torch.testing.assert_close(of, expected.expand_as(of), atol=1e-8, rtol=1e-7)


def test_kpcacams_signed_map_has_two_sides_and_options_are_checked() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    signed = explainer(network, "kpcacam", "tapped", signed=True)(images).maps
    assert (signed.amin((-2, -1)) < 0).all()
    torch.testing.assert_close(explainer(network, "kpcacam", "tapped")(images).maps, signed.relu())
    for options in ({"kernel": "cosine"}, {"gamma": -1.0}):
        with pytest.raises(UsageError, match="use kernel sigmoid, rbf, poly, linear"):
            explainer(network, "kpcacam", "tapped", **options)(images)


class Normed(nn.Module):
    """Pooling, a norm and a linear layer, as ConvNeXt ends."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.tapped = nn.Conv2d(3, 6, 4, stride=4)
        self.norm, self.head = norm, nn.Linear(6, networks.CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.tapped(images).mean((-2, -1))))


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.BatchNorm1d])
def test_cam_through_a_norm_adds_up_to_the_logit(norm: type[nn.Module]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Normed(norm(6)).double().eval()
        nn.init.normal_(network.norm.weight)
        nn.init.normal_(network.norm.bias)
        if norm is nn.BatchNorm1d:
            network.norm.running_mean.normal_()
            network.norm.running_var.uniform_(0.5, 2)
    images = networks.make_images(3)
    every = explainer(network, "cam", "tapped", signed=True)(images, targets=[[0, 1, 2, 3, 4]] * 3)
    inside = every.maps.mean((-2, -1))
    rest = network.head(network.norm.bias)
    if norm is nn.BatchNorm1d:
        scaled = network.norm.running_mean / (network.norm.running_var + network.norm.eps).sqrt()
        rest = rest - network.head.weight @ (network.norm.weight * scaled)
    torch.testing.assert_close(inside + rest.detach(), every.logits)


def test_cam_refuses_what_has_more_behind_it() -> None:
    network = networks.make("with relu")
    with pytest.raises(LayerError, match="method='hirescam'"):
        explainer(network, "cam", "tapped")(networks.make_images(1))


def test_cam_is_found_though_no_two_forwards_agree() -> None:
    """As where the rounding of one layer grows in those behind it, with weights drawn anew."""

    class Restless(Normed):
        calls = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return super().forward(images * (1 + 0.01 * self.calls))

    network, every = Restless(nn.LayerNorm(6)).double().eval(), [[0, 1, 2, 3, 4]] * 3
    made = explainer(network, "cam", "tapped", signed=True)(networks.make_images(3), targets=every)
    rest = network.head(network.norm.bias).detach()
    torch.testing.assert_close(made.maps.mean((-2, -1)) + rest, made.logits)


@pytest.mark.parametrize("number", [1, 4])
def test_cam_leaves_a_batch_norm_in_training_as_it_was(number: int) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network.append(nn.BatchNorm1d(8)).append(nn.Linear(8, 4)).train()
    before = copy.deepcopy(network.state_dict())
    images = torch.randn(number, 3, 32, 32)
    found = Explainer(network, "cam")(images)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert network.training
    torch.testing.assert_close(found.maps, Explainer(network.eval(), "cam")(images).maps)


@pytest.mark.parametrize("method", ["eigencam", "kpcacam"])
@pytest.mark.parametrize("seed", range(4))
def test_the_sign_where_channels_add_up_to_nothing(method: str, seed: int) -> None:
    """Behind a plain layer norm their sum is rounding: one cell that stands out is positive."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(4, 6, 6, 12, generator=generator) * 0.3
    direction = torch.randn(12, generator=generator)
    tokens += direction * torch.rand(4, 6, 6, 1, generator=generator) * 0.1
    tokens[:, 2, 3] += 4 * direction
    centred = tokens - tokens.mean(-1, keepdim=True)  # which leaves rounding of either sign
    classes = torch.zeros(4, 1, dtype=torch.long)
    maps = METHODS[method].function(centred.permute(0, 3, 1, 2), classes)
    assert (maps.flatten(1).argmax(1) == 2 * 6 + 3).all()
    again = METHODS[method].function((centred + 1e-7).permute(0, 3, 1, 2), classes)
    less = METHODS[method].function((centred - 1e-7).permute(0, 3, 1, 2), classes)
    torch.testing.assert_close(again, less, rtol=1e-3, atol=1e-4)


class Adapted(nn.Linear):
    """A linear layer that adds to its weights what another matrix has learned."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(rows, self.weight + 1, self.bias)


class Bent(nn.BatchNorm2d):
    """A batch norm with an activation behind it."""

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        return super().forward(cells).relu()


@pytest.mark.parametrize(
    "behind",
    [[nn.Flatten(), Adapted(8, 5)], [Bent(8), nn.Flatten(), nn.Linear(8, 5)]],
    ids=["linear", "norm"],
)
def test_cam_refuses_subclasses_that_do_more(behind: list) -> None:
    """Their weights alone are not what gives the logits."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), *behind).eval()
    with pytest.raises(LayerError, match="finds more"):
        Explainer(network, "cam", "0")(torch.randn(4, 3, 16, 16))
