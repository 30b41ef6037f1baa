import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mitate.explain.grid import Grid, find_grid, readings

SIDES = st.integers(32, 512)
CHANNELS = st.integers(600, 2000)


@given(height=SIDES, width=SIDES, stride=st.sampled_from([4, 8, 14, 16]), channels=CHANNELS)
def test_four_axes_are_read_in_either_layout(
    height: int, width: int, stride: int, channels: int
) -> None:
    cells = (-(-height // stride), -(-width // stride))
    first = find_grid((1, channels, *cells), (height, width))
    last = find_grid((1, *cells, channels), (height, width))
    assert first == Grid("channels first", *cells, channels)
    assert last == Grid("channels last", *cells, channels)


@given(
    height=SIDES,
    width=SIDES,
    stride=st.sampled_from([8, 14, 16]),
    prefix=st.integers(0, 5),
    up=st.booleans(),
)
def test_tokens_are_read_where_the_prefix_is_known(
    height: int, width: int, stride: int, prefix: int, up: bool
) -> None:
    cells = (
        (-(-height // stride), -(-width // stride)) if up else (height // stride, width // stride)
    )
    grid = find_grid((1, cells[0] * cells[1] + prefix, 64), (height, width), prefixes=(prefix,))
    assert grid is not None
    assert grid.prefix == prefix
    assert grid.height * grid.width == cells[0] * cells[1]
    assert abs(grid.height / height - grid.width / width) <= 1 / height + 1 / width


@given(side=st.integers(7, 40), told=st.sets(st.integers(0, 5), min_size=1), data=st.data())
def test_square_patches_are_found_behind_one_of_several_prefixes(
    side: int, told: set[int], data: st.DataObject
) -> None:
    prefix = data.draw(st.sampled_from(sorted(told)))
    grids = readings((2, side * side + prefix, 64), (side * 16, side * 16), None, sorted(told))
    assert Grid("tokens", side, side, 64, prefix) in grids


def test_tokens_that_are_nothing_but_the_prefix_are_no_grid() -> None:
    assert find_grid((1, 4, 64), (32, 32), None, (0, 4)) is None
    assert find_grid((1, 4, 64), (32, 32), None, (0,)) == Grid("tokens", 2, 2, 64)


@given(
    shape=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    size=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    prefixes=st.lists(st.integers(0, 9), max_size=3),
    module=st.sampled_from([None, nn.Linear(1, 1), nn.Conv2d(1, 1, 1), nn.LayerNorm(1)]),
)
def test_a_grid_always_fits_its_shape(shape, size, prefixes, module) -> None:
    grid = find_grid(shape, size, module, prefixes)
    if grid is None:
        return
    assert grid.height * grid.width > 1
    numbers = torch.empty(shape, device="meta")
    assert grid.spatial(numbers).shape == (shape[0], grid.channels, grid.height, grid.width)


def test_spatial_brings_the_cells_to_their_place_with_a_leading_axis_too() -> None:
    cells = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    tokens = torch.cat([torch.zeros(2, 1, 4), cells.flatten(1).reshape(2, 3, 4)], 1)
    grid = Grid("tokens", 1, 3, 4, prefix=1)
    assert grid.spatial(tokens).tolist() == cells.permute(0, 2, 1)[:, :, None].tolist()
    last = Grid("channels last", 1, 3, 4)
    assert last.spatial(cells[None, :, None]).shape == (1, 2, 4, 1, 3)
    assert torch.equal(last.spatial(cells[:, None]), cells.permute(0, 2, 1)[:, :, None])


def test_a_grid_of_one_cell_is_none() -> None:
    assert find_grid((1, 64, 1, 1), (32, 32)) is None
    assert find_grid((1, 64, 1, 1), (32, 32), nn.Conv2d(1, 1, 1)) is None
    assert find_grid((1, 1, 64), (32, 32)) is None
    assert find_grid((1, 2, 64), (32, 32), prefixes=(1,)) is None
    assert find_grid((1, 64), (32, 32)) is None


def test_a_shape_that_reads_both_ways_is_nchw_but_for_the_module() -> None:
    shape = (1, 16, 16, 16)
    assert find_grid(shape, (64, 64)) == Grid("channels first", 16, 16, 16)
    assert find_grid(shape, (64, 64), nn.LayerNorm(16)) == Grid("channels last", 16, 16, 16)
    assert find_grid(shape, (64, 64), nn.Conv2d(1, 1, 1)) == Grid("channels first", 16, 16, 16)


def test_the_closer_of_two_readings_wins() -> None:
    assert find_grid((1, 7, 7, 8), (224, 224)) == Grid("channels last", 7, 7, 8)
    assert find_grid((1, 8, 7, 7), (224, 224)) == Grid("channels first", 7, 7, 8)


def test_mixed_tokens_are_no_grid() -> None:
    assert find_grid((1, 768, 196), (224, 224)) is None


def test_a_convolution_is_believed_at_any_aspect() -> None:
    assert find_grid((1, 8, 3, 40), (64, 64), nn.Conv2d(1, 1, 1)) == Grid(
        "channels first", 3, 40, 8
    )
    assert find_grid((1, 8, 3, 40), (64, 64)) is None


def test_patches_before_the_class_token_joins_them() -> None:
    for tokens, prefix in ((196, 0), (197, 1)):
        grid = find_grid((1, tokens, 64), (224, 224), prefixes=(1, 0))
        assert grid == Grid("tokens", 14, 14, 64, prefix)


def test_volumes() -> None:
    volume = Grid("channels first", 3, 4, 5, depth=2)
    assert find_grid((1, 5, 2, 3, 4), (8, 12, 16), nn.Conv3d(1, 1, 1)) == volume
    assert volume.cells == 24
    numbers = torch.arange(5 * 24).reshape(1, 5, 2, 3, 4)
    slices = volume.spatial(numbers)
    assert slices.shape == (1, 5, 6, 4)
    assert torch.equal(volume.volume(slices), numbers)
    assert find_grid((1, 5, 2, 3, 4), (12, 16)) is None


def test_tokens_of_volumes_come_slice_by_slice() -> None:
    whole, *others = readings((1, 4 * 6 * 8 + 1, 5), (8, 48, 64), None, (1,))
    assert whole == Grid("tokens", 6, 8, 5, 1, depth=4)
    assert all(grid.cells == 4 * 6 * 8 and grid.depth <= 8 for grid in others)
    tokens = torch.arange(4 * 6 * 8 + 1)[None, :, None].expand(1, -1, 5)
    cells = whole.volume(whole.spatial(tokens))
    assert torch.equal(cells[0, 0], torch.arange(1, 4 * 6 * 8 + 1).reshape(4, 6, 8))
    assert whole.faced(tokens).shape == (4, 5, 6, 8)
    assert readings((1, 7, 5), (8, 48, 64)) == ()
