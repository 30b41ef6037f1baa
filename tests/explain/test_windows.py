"""Windows are put back where they were cut from, by trial alone."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mitate import Explainer, imports
from mitate.errors import LayerError
from mitate.explain.around import Around, diagonal
from mitate.explain.grid import Grid
from mitate.explain.hooks import Place
from mitate.explain.windows import unwindowed, window_order
from oracles import attention, networks

WINDOWED = ("windows", "windows, padded")
TARGETS = [[0, 3]] * 2


def partitioned(name: str) -> attention.Partitioned:
    network = attention.make(name, "fused")
    network.requires_grad_(False)  # the blocks' weights are none of the wrapper's
    return attention.Partitioned(network)


@pytest.mark.parametrize("name", WINDOWED)
def test_the_blocks_of_windows_are_the_same_network(name: str) -> None:
    images = networks.make_images(2)
    expected = attention.make(name)(images)
    torch.testing.assert_close(partitioned(name)(images), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["attention", "rollout"])
@pytest.mark.parametrize("name", WINDOWED)
def test_the_maps_are_the_oracles(name: str, kind: str) -> None:
    images, plain = networks.make_images(2), attention.make(name)
    choices = [{"block": 0}, {"block": 1}, {"head": 1}] if kind == "attention" else [{}]
    for options in choices:
        maps = Explainer(partitioned(name), kind, "patches", **options)(
            images, targets=TARGETS
        ).maps
        given = {{"block": "layer"}.get(key, key): value for key, value in options.items()}
        for image, of in zip(images, maps, strict=True):
            expected = torch.tensor(getattr(attention, kind)(plain, image, **given)).double()
            torch.testing.assert_close(of, expected.expand_as(of), rtol=1e-6, atol=1e-8)


def slopes_of(
    network: attention.Windowed, image: Tensor, target: int
) -> list[tuple[Tensor, Tensor]]:
    """Each block's probabilities and the logit's gradients there, over the whole grid."""
    tokens, steps = network.patches(image[None]).permute(0, 2, 3, 1), []
    for index in range(2):
        tokens, probabilities = network.step(tokens, index)
        steps.append(probabilities)
    flat = [given for step in steps for given in step]
    found = torch.autograd.grad(network.after(tokens)[0, target], flat)
    out, number = [], len(steps[0])
    for index in range(2):
        both = (steps[index], found[index * number : (index + 1) * number])
        matrices = [
            attention.unwindowed([one[0].tolist() for one in every], network, network.shifts[index])
            for every in both
        ]
        out.append(tuple(torch.tensor(matrix, dtype=torch.float64) for matrix in matrices))
    return out


@pytest.mark.parametrize("name", WINDOWED)
def test_gradients_are_put_back_too(name: str) -> None:
    images, plain = networks.make_images(1), attention.make(name)
    steps = slopes_of(plain, images[0], 3)
    rolled = torch.eye(24).double()
    for probabilities, slopes in steps:
        rolled = rolled + (probabilities * slopes).relu().mean(0) @ rolled
    expected = (rolled - torch.eye(24)).mean(0).reshape(4, 6)
    made = Explainer(partitioned(name), "gradrollout", "patches")(images, targets=[3]).maps[0, 0]
    torch.testing.assert_close(made, expected, rtol=1e-8, atol=1e-12)
    last = Explainer(partitioned(name), "legrad", "patches", blocks=1, pooled=False)
    own = steps[-1][1].relu().mean((0, 1)).reshape(4, 6)
    torch.testing.assert_close(last(images, targets=[3]).maps[0, 0], own, rtol=1e-8, atol=1e-12)


def test_windows_side_by_side() -> None:
    order = torch.tensor([[3, 0], [1, -1], [2, -1]])
    windows = torch.arange(24.0).reshape(6, 1, 2, 2)
    made = unwindowed(windows, order, 4)
    assert made.shape == (2, 1, 4, 4)
    assert made[0, 0].tolist() == [[3, 0, 0, 2], [0, 4, 0, 0], [0, 0, 8, 0], [1, 0, 0, 0]]
    assert made[1, 0, 2, 2] == windows[5, 0, 0, 0]


def swin(window: int, size: int, name: str = "swin_tiny_patch4_window7_224") -> nn.Module:
    given = {"embed_dim": 24, "depths": (2,), "num_heads": (2,), "window_size": window}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = imports.timm().create_model(name, num_classes=5, img_size=size, **given)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


def expected_order(side: int, window: int, shift: int) -> list[list[int]]:
    """Rolled by the shift, padded at the end, cut: row by row."""
    across = -(-side // window)

    def cell(y: int, x: int) -> int:
        if y >= side or x >= side:
            return -1
        return (y + shift) % side * side + (x + shift) % side

    return [
        [cell(i * window + a, j * window + c) for a in range(window) for c in range(window)]
        for i in range(across)
        for j in range(across)
    ]


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
@pytest.mark.parametrize(("window", "size"), [(4, 32), (3, 32)])
def test_timms_swins(name: str, window: int, size: int) -> None:
    """Windows, shifted windows, and both where the grid is padded: each block's map is its own."""
    network, images = swin(window, size, name), torch.randn(2, 3, size, size)
    side = size // 4
    for index, block in enumerate(network.layers[0].blocks):
        seen: list[Tensor] = []
        block.attn.fused_attn = False
        handle = block.attn.softmax.register_forward_hook(
            lambda m, a, out, seen=seen: seen.append(out)
        )
        with torch.no_grad():
            network(images)
        handle.remove()
        matrix = torch.zeros(2, side**2 + 1, side**2 + 1)
        shift = block.shift_size[0]
        assert shift == index * (window // 2)
        order = expected_order(side, window, shift)
        windows = seen[0].mean(1).reshape(2, len(order), window**2, window**2)
        for w, places in enumerate(order):
            for q, query in enumerate(places):
                for k, key in enumerate(places):
                    matrix[:, query, key] = windows[:, w, q, k]
        expected = matrix[:, :-1, :-1].mean(1).reshape(2, side, side)
        made = Explainer(network, "attention", "layers.0", block=index)(images, top_k=1).maps[:, 0]
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-6)


def test_windows_and_grids_of_maxvit() -> None:
    """A change in one cell is seen by its window of neighbours, then by one cell of each."""
    given = {"embed_dim": (32, 32), "depths": (1, 1), "img_size": 64}
    torch.manual_seed(0)
    network = imports.timm().create_model("maxvit_tiny_rw_224", num_classes=5, **given).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    block = network.stages[1].blocks[0]
    start = torch.randn(1, 8, 8, 32)
    for part, together in ((block.attn_block, [0, 1, 8, 9]), (block.attn_grid, [0, 4, 32, 36])):
        moved = start.clone()
        moved[0, 0, 0] += torch.randn(32)
        with torch.no_grad():
            change = (part(moved) - part(start)).abs().sum(-1).flatten()
        window = (change > 1e-4).nonzero().flatten().tolist()
        assert set(together) <= set(window)
        diagonals = partial(diagonal, network, Around(Place(part, "part"), start, ((), {}), start))
        order = window_order(part, start, Grid("channels last", 8, 8, 32), 0, diagonals)
        assert sorted(next(row for row in order.tolist() if 0 in row)) == window
    for index in range(2):
        made = Explainer(network, "attention", block=index)(torch.randn(1, 3, 64, 64))
        assert made.maps.shape == (1, 3, 8, 8)


class Mixing(nn.Module):
    """A block that blurs its cells before it cuts windows."""

    def __init__(self, held: nn.Module) -> None:
        super().__init__()
        self.blur, self.held = nn.AvgPool2d(3, 1, 1), held.forward

    def forward(self, tokens: Tensor) -> Tensor:
        return self.held(self.blur(tokens.movedim(-1, 1)).movedim(1, -1))


def test_cells_that_are_mixed_before_they_are_cut_cannot_be_told() -> None:
    network = partitioned("windows")
    network.blocks = nn.ModuleList(Mixing(block) for block in network.blocks)
    with pytest.raises(LayerError, match="no block of this network is seen to attend"):
        Explainer(network, "attention", "patches")(networks.make_images(1))


def test_the_order_is_looked_for_once() -> None:
    calls: list[int] = []

    def diagonals(tensor: Tensor) -> Tensor:
        calls.append(1)
        cells = tensor.square().sum(1).flatten(1)
        return cells[:, [2, 3, 0, 1]].reshape(4, 1, 2)

    grid, start, module = Grid("channels first", 2, 2, 5), torch.randn(2, 5, 2, 2), nn.Identity()
    first = window_order(module, start, grid, 0, diagonals)
    assert first.tolist() == [[2, 3], [0, 1]]
    made = len(calls)
    assert torch.equal(window_order(module, start, grid, 0, diagonals), first)
    assert len(calls) == made == 1 + 3


class Laid(nn.Module):
    """Attention in two windows, or in one, whose heads and windows lie in ways of their own."""

    def __init__(self, laid: str, windows: int, heads: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.laid, self.windows, self.heads = laid, windows, heads
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, grid: Tensor) -> Tensor:
        number, height, width, _ = grid.shape
        cells = height * width // self.windows
        tokens = grid.reshape(number, self.windows, cells, 8)  # bands of rows
        parts = self.qkv(tokens).reshape(number, self.windows, cells, 3, self.heads, -1)
        given = parts.permute(3, 0, 1, 4, 2, 5)  # 3, b, windows, heads, n, d
        match self.laid:
            case "in the batch":
                seen = F.scaled_dot_product_attention(*given.flatten(1, 2))
                seen = seen.unflatten(0, (number, self.windows))
            case "windows, heads":
                seen = F.scaled_dot_product_attention(*given)
            case "heads, windows":
                seen = F.scaled_dot_product_attention(*given.transpose(2, 3)).transpose(1, 2)
            case "heads in the batch":
                query, key, value = given.flatten(1, 3)
                weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
                seen = (weights @ value).unflatten(0, (number, self.windows, self.heads))
        return grid + self.out(seen.transpose(2, 3).reshape(grid.shape))


class Framed(nn.Module):
    """Patches, blocks and a head."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(8, networks.CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        grid = self.blocks(self.patches(images).permute(0, 2, 3, 1))
        return self.head(grid.tanh().mean((1, 2)))


def framed(laid: str, windows: int, heads: int = 2) -> nn.Module:
    return Framed(*(Laid(laid, windows, heads) for _ in range(2))).double().eval()


@pytest.mark.parametrize("method", ["attention", "rollout", "gradrollout", "legrad"])
@pytest.mark.parametrize(
    ("laid", "windows", "heads"),
    [
        ("windows, heads", 2, 2),
        ("windows, heads", 4, 2),
        ("windows, heads", 1, 2),
        ("heads, windows", 2, 2),
        ("heads, windows", 1, 2),
        ("heads in the batch", 1, 2),
        ("heads in the batch", 1, 1),
    ],
)
def test_where_heads_and_windows_lie(laid: str, windows: int, heads: int, method: str) -> None:
    images = networks.make_images(3)
    wanted = Explainer(framed("in the batch", windows, heads), method, "blocks")(images, top_k=2)
    found = Explainer(framed(laid, windows, heads), method, "blocks")(images, top_k=2)
    assert not wanted.flags
    torch.testing.assert_close(found.logits, wanted.logits)
    torch.testing.assert_close(found.maps, wanted.maps)


class Crossed(Laid):
    """Heads in the batch, but an image's heads do not lie beside each other."""

    def forward(self, grid: Tensor) -> Tensor:
        tokens = grid.flatten(1, 2)
        parts = self.qkv(tokens).reshape(*tokens.shape[:2], 3, self.heads, -1)
        query, key, value = parts.permute(2, 3, 0, 1, 4).flatten(1, 2)
        seen = (query @ key.mT).softmax(-1) @ value
        seen = seen.unflatten(0, (self.heads, -1)).permute(1, 2, 0, 3)
        return grid + self.out(seen.reshape(grid.shape))


def test_heads_before_images_are_not_taken_for_images() -> None:
    network = Framed(Crossed("", 1)).double().eval()
    with pytest.raises(LayerError, match="no block of this network is seen to attend"):
        Explainer(network, "attention", "blocks")(networks.make_images(3))


def test_attention_that_is_nearly_even_is_not_taken_for_another_heads() -> None:
    network = Framed(Crossed("", 1)).double().eval()
    nn.init.normal_(network.blocks[0].qkv.weight, std=0.003)
    with pytest.raises(LayerError, match="no block of this network is seen to attend"):
        Explainer(network, "attention", "blocks")(networks.make_images(2))


class Joined(nn.Module):
    """Blocks over patches, and a class token that comes in behind them, as in VOLO and CaiT."""

    def __init__(self) -> None:
        super().__init__()
        self.framed = framed("in the batch", 1)
        self.token = nn.Parameter(torch.randn(1, 1, 8).double())
        self.num_prefix_tokens = 1
        self.joined, self.last = nn.Identity(), nn.Linear(8, 8).double()
        self.head = nn.Linear(8, networks.CLASSES).double()

    def forward(self, images: Tensor) -> Tensor:
        grid = self.framed.blocks(self.framed.patches(images).permute(0, 2, 3, 1))
        tokens = torch.cat([self.token.expand(len(images), -1, -1), grid.flatten(1, 2)], 1)
        tokens = self.joined(tokens)
        query = self.last(tokens[:, :1])
        taken = (query @ tokens.mT).softmax(-1) @ tokens
        return self.head(taken[:, 0])


@pytest.mark.parametrize("method", ["attention", "rollout", "gradrollout", "legrad"])
def test_a_class_token_behind_the_blocks(method: str) -> None:
    made = Explainer(Joined().eval(), method, "joined")(networks.make_images(2), top_k=2)
    assert made.maps.shape == (2, 2, 4, 6)
    assert not made.flags
