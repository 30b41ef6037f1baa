"""Each operation against autograd's own gradient, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mitate.explain import lowering

SIDES = {1: (11,), 2: (11, 8), 3: (5, 6, 7)}
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
POOLS = {2: F.avg_pool2d, 3: F.avg_pool3d}


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def by_autograd(function, images: Tensor) -> tuple[Tensor, Tensor]:
    """A gradient that comes in, and what autograd makes of it."""
    leaf = images.clone().requires_grad_()
    output = function(leaf)
    gradient = drawn(*output.shape)
    return gradient, torch.autograd.grad(output, leaf, gradient)[0]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [(1, 1, 0, 1, 1), (1, 2, 0, 1, 1), (3, 1, 1, 1, 2), (3, 2, 1, 1, 1), (2, 3, 0, 2, 4)],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions(
    axes: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    transposed: bool,
) -> None:
    run = (TRANSPOSED if transposed else CONVOLUTIONS)[axes]
    images = drawn(2, 4, *SIDES[axes])
    shape = (4, 8 // groups) if transposed else (8, 4 // groups)
    weight = drawn(*shape, *[kernel] * axes)

    def convolve(leaf: Tensor) -> Tensor:
        return run(leaf, weight, None, stride, padding, dilation=dilation, groups=groups)

    gradient, expected = by_autograd(convolve, images)
    found, *rest = lowering.convolution_backward(
        gradient,
        images,
        weight,
        None,
        [stride] * axes,
        [padding] * axes,
        [dilation] * axes,
        transposed,
        [0] * axes,
        groups,
        [True, False, False],
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert rest == [None, None]


def test_gradients_of_weights_are_left_to_torch() -> None:
    given = drawn(1, 4, 5, 5)
    same = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    mask = [True, True, False]
    found = lowering.convolution_backward(given, given, drawn(4, 4, 1, 1), None, *same, mask)
    assert found is NotImplemented


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil", "counted", "divisor"),
    [
        (2, 2, 0, False, True, None),
        (2, 2, 0, True, False, None),
        (3, 2, 1, True, False, None),
        (3, 2, 1, True, True, None),
        (3, 1, 1, False, True, None),
        (3, 1, 1, False, False, None),
        (2, 3, 0, False, True, None),
        (3, 2, 1, False, True, 4),
    ],
)
def test_average_pools(axes, kernel, stride, padding, ceil, counted, divisor) -> None:
    images = drawn(2, 3, *SIDES[axes])

    def pool(leaf: Tensor) -> Tensor:
        return POOLS[axes](leaf, kernel, stride, padding, ceil, counted, divisor)

    gradient, expected = by_autograd(pool, images)
    rest = (ceil, counted, divisor)
    found = lowering.average_pool_backward(gradient, images, [kernel], [stride], [padding], *rest)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("kernel", "padding"), [(40, 0), (40, 3), (9, 0)])
def test_an_average_pool_of_more_than_the_input(kernel: int, padding: int) -> None:
    images = drawn(1, 2, 6, 8)
    gradient, expected = by_autograd(
        lambda leaf: F.avg_pool2d(leaf, kernel, kernel, padding, ceil_mode=True), images
    )
    rest = (True, True, None)
    sides = [kernel], [kernel], [padding]
    found = lowering.average_pool_backward(gradient, images, *sides, *rest)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("place", [slice(1, None), slice(-3, None), slice(1, -1), slice(0, 7, 2)])
def test_slices(place: slice) -> None:
    images = drawn(2, 8, 3)
    gradient, expected = by_autograd(lambda leaf: leaf[:, place], images)
    end = 2**63 - 1 if place.stop is None else place.stop
    found = lowering.slice_backward(gradient, images.shape, 1, place.start, end, place.step or 1)
    assert torch.equal(found, expected)


def test_an_average_pool_strides_by_its_kernel_where_none_is_told() -> None:
    images = drawn(1, 2, 6, 6)
    gradient, expected = by_autograd(lambda leaf: F.avg_pool2d(leaf, 3), images)
    found = lowering.average_pool_backward(gradient, images, [3, 3], [], [0], False, True, None)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 8), (7, 5), (11, 8)])
def test_adaptive_pools(size: tuple[int, int]) -> None:
    images = drawn(2, 3, 11, 8)
    gradient, expected = by_autograd(lambda leaf: F.adaptive_avg_pool2d(leaf, size), images)
    found = lowering.adaptive_pool_backward(gradient, images)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kernel", [2, 3])
def test_maximum_pools_add_up_where_windows_share_a_maximum(kernel: int) -> None:
    images = drawn(2, 3, 11, 8)
    _, indices = F.max_pool2d(images, kernel, 2, 1, return_indices=True)
    gradient, expected = by_autograd(lambda leaf: F.max_pool2d(leaf, kernel, 2, 1), images)
    window = ([kernel] * 2, [2, 2], [1, 1], [1, 1], False)
    found = lowering.max_pool_backward(gradient, images, *window, indices)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("given", [1, (1, 1)])
def test_pooling_to_one_cell_is_a_mean_whatever_the_strides(given) -> None:
    images = drawn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    with lowering.PlainPooling():
        pooled = F.adaptive_avg_pool2d(images, given)
        wider = F.adaptive_avg_pool2d(images, (2, 2))
    torch.testing.assert_close(pooled, images.mean((-2, -1), keepdim=True))
    torch.testing.assert_close(wider, F.adaptive_avg_pool2d(images, (2, 2)))
