"""Volumes (b, channels, D, H, W): films, tomography."""

import pytest
import torch
from torch import Tensor, nn

from mitate import Explainer, Explanation, imports
from mitate.errors import UsageError
from mitate.explain.grid import Grid
from mitate.explain.layers import automatic
from mitate.explain.methods import METHODS
from mitate.models.classifier import Classifier

SIZE = (8, 16, 24)
TAKE_VOLUMES = sorted(name for name, method in METHODS.items() if method.takes_volumes)


class Film(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv3d(1, 4, 3, stride=(1, 2, 2), padding=1)
        self.tapped = nn.Conv3d(4, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, films: Tensor) -> Tensor:
        found = self.tapped(self.first(films).relu()).relu()
        return self.head(found.square().mean((-3, -2, -1)))


def films(number: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, 1, *SIZE, generator=generator, dtype=torch.float64)


def explainer(method: str = "gradcam", layer: str = "tapped", **options) -> Explainer:
    return Explainer(Classifier.from_module(Film().double()), method, layer, **options)


def slopes(target: int) -> tuple[Tensor, Tensor]:
    network, kept = Film().double(), []
    network.tapped.register_forward_hook(lambda module, args, output: kept.append(output))
    scores = network(films())[:, target]
    (gradients,) = torch.autograd.grad(scores.sum(), kept)
    return kept[0].detach(), gradients


def test_gradcam_by_hand() -> None:
    activations, gradients = slopes(3)
    weights = gradients.mean((-3, -2, -1), keepdim=True)
    expected = (weights * activations).sum(1).relu()
    explanation = explainer()(films(), targets=[3, 3])
    assert explanation.maps.shape == (2, 1, 4, 4, 6)
    assert explanation.input_size == SIZE
    torch.testing.assert_close(explanation.maps[:, 0], expected)


def test_hirescam_by_hand() -> None:
    activations, gradients = slopes(1)
    expected = (gradients * activations).sum(1).relu()
    torch.testing.assert_close(explainer("hirescam")(films(), targets=[1, 1]).maps[:, 0], expected)


@pytest.mark.parametrize("method", TAKE_VOLUMES)
def test_every_method_that_takes_them_makes_each_alone_as_in_a_batch(method: str) -> None:
    make = Explainer(
        Classifier.from_module(
            nn.Sequential(
                nn.Conv3d(1, 6, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool3d(1),
                nn.Flatten(),
                nn.Linear(6, 4),
            ).double()
        ),
        method,
        show_progress=False,
    )
    together = make(films(3))
    assert together.maps.shape == (3, 3, 4, 8, 12)
    for index, alone in enumerate(together):
        torch.testing.assert_close(make(films(3)[index : index + 1]).maps, alone.maps)


@pytest.mark.parametrize("method", sorted(METHODS.keys() - set(TAKE_VOLUMES)))
def test_the_others_say_so(method: str) -> None:
    with pytest.raises(UsageError, match=f"{method} is made for images and was given volumes"):
        explainer(method)(films())


def test_gradient_methods_take_volumes() -> None:
    of_gradients = {name for name, method in METHODS.items() if method.family == "gradients"}
    missing = of_gradients - set(TAKE_VOLUMES)
    assert missing <= {"fullgrad"}


def test_auto_and_several_layers() -> None:
    explanation = explainer("layercam", "first + auto")(films())
    assert explanation.layer == "first + tapped"
    assert explanation.maps.shape[2:] == (8, 8, 12)


def test_a_network_of_torchvision() -> None:
    video = imports.torchvision("models.video")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = video.r3d_18(weights=None, num_classes=3).eval()
    explanation = Explainer(network)(torch.randn(1, 3, 8, 56, 56))
    assert explanation.layer == "layer4"
    assert explanation.maps.shape == (1, 3, 1, 4, 4)


def multiscale_transformer() -> nn.Module:
    mvit = imports.torchvision("models.video.mvit")
    kernel, whole, halved = [3, 3, 3], [1, 1, 1], [1, 2, 2]
    sizes = [(16, 16, whole, halved), (16, 32, halved, whole), (32, 32, whole, whole)]
    blocks = [
        mvit.MSBlockConfig(2, before, after, kernel, kernel, queries, keys)
        for before, after, queries, keys in sizes
    ]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return mvit.MViT(
            (64, 96), 8, blocks, residual_pool=False, residual_with_cls_embed=True,
            rel_pos_embed=False, proj_after_attn=False, num_classes=5,
        ).eval()  # fmt: skip


def test_tokens_slice_by_slice() -> None:
    network = multiscale_transformer()
    layer = automatic(network, torch.randn(1, 3, 8, 64, 96), read=lambda scores: scores)
    assert layer.name.startswith("blocks.2")
    assert layer.grid == Grid("tokens", 8, 12, 32, prefix=1, depth=4)
    films = torch.zeros(1, 3, 8, 64, 96)
    films[:, :, 4:, 32:, 64:] = torch.randn(1, 3, 4, 32, 32)  # late, below, at the right
    changed = Explainer(network, "eigencam", "blocks.0")(films, top_k=1).maps[0, 0].abs()
    assert changed.shape == (4, 16, 24)
    assert changed[3, 12:, 20:].mean() > 2 * changed[:2].mean()
    assert changed[3, 12:, 20:].mean() > 2 * changed[3, :4, :12].mean()


def test_tokens_place_by_place_are_no_slices() -> None:
    """TimeSformer's order: all times of a place before the next place."""

    class PlaceByPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.patches = nn.Conv3d(1, 16, (1, 8, 8), stride=(1, 8, 8))
            self.layer, self.head = nn.Linear(16, 16), nn.Linear(16, 3)

        def forward(self, films: Tensor) -> Tensor:
            tokens = self.patches(films).flatten(3).transpose(2, 3).flatten(2).mT
            return self.head(self.layer(tokens).relu().mean(1))

    network = PlaceByPlace()
    explanation = Explainer(network)(torch.randn(1, 1, 8, 48, 48))
    assert explanation.layer == "patches"


def test_sizes_slices_and_pictures() -> None:
    explanation = explainer()(films())
    full = explanation.resize()
    assert full.shape == (2, 3, *SIZE)
    assert explanation.resize("nearest", (2, 3, 4)).shape == (2, 3, 2, 3, 4)
    with pytest.raises(UsageError, match="bilinear or nearest"):
        explanation.resize("bicubic")
    with pytest.raises(UsageError, match=r"explanation\.slice\(place\)"):
        explanation.plot()
    last = explanation.slice(-1)
    torch.testing.assert_close(last.resize(), full[:, :, -1], rtol=1e-3, atol=1e-4)
    assert last.overlay()[0][0].size == (24, 16)
    assert explanation.normalized().amax((-3, -2, -1)).unique().tolist() == pytest.approx([1.0])
    for place in (8, -9):
        with pytest.raises(UsageError, match="it has 8"):
            explanation.slice(place)
    with pytest.raises(UsageError, match="of images, not of volumes"):
        last.slice(0)


def test_on_disk(tmp_path) -> None:
    explanation = explainer()(films())
    again = Explanation.load(explanation.save(tmp_path / "a.npz", half=False))
    torch.testing.assert_close(again.maps, explanation.maps.float())
    assert again.input_size == SIZE


def test_a_notebook_is_told_how_volumes_are_drawn() -> None:
    assert "explanation.slice(place) can be drawn" in explainer()(films())._repr_html_()
