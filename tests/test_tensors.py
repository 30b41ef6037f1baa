import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mitate.errors import UsageError
from mitate.tensors import (
    at_least_single,
    generators,
    has_doubles,
    relative_to_maximum,
    replaced,
    resize_maps,
    resizing,
    rows,
    to_unit_range,
    varies,
)


def draws(seed: int, images: torch.Tensor) -> list[float]:
    return [float(torch.rand(1, generator=g)) for g in generators(seed, list(images))]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_an_image_draws_the_same_in_any_batch(dtype: torch.dtype) -> None:
    images = torch.randn(4, 3, 5, 5).to(dtype)
    together = draws(0, images)
    assert together == [draws(0, image[None])[0] for image in images]
    assert together[::-1] == draws(0, images.flip(0))
    assert len(set(together)) == 4
    assert not set(draws(1, images)) & set(together)


def test_generators_leave_the_global_state_alone() -> None:
    states = torch.get_rng_state(), random.getstate()
    draws(3, torch.zeros(2, 3, 2, 2))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_resizing_keeps_range_and_type(mode: str, dtype: torch.dtype) -> None:
    maps = torch.randn(2, 3, 5, 4).to(dtype)
    resized = resize_maps(maps, (17, 23), mode)
    assert resized.shape == (2, 3, 17, 23)
    assert resized.dtype == dtype
    assert (resized.amax((-2, -1)) <= maps.amax((-2, -1))).all()
    assert (resized.amin((-2, -1)) >= maps.amin((-2, -1))).all()


def test_bicubic_would_overshoot() -> None:
    maps = torch.zeros(1, 1, 4, 4)
    maps[..., 1:3, 1:3] = 1
    raw = torch.nn.functional.interpolate(maps, (16, 16), mode="bicubic")
    assert raw.max() > 1
    assert raw.min() < 0
    torch.testing.assert_close(resize_maps(maps, (16, 16), "bicubic"), raw.clamp(0, 1))


@pytest.mark.parametrize(
    ("size", "large"), [((5, 7), (23, 40)), ((1, 3), (4, 3)), ((6, 6), (4, 2))]
)
def test_two_products_resize_as_an_interpolation(
    size: tuple[int, int], large: tuple[int, int]
) -> None:
    maps = torch.randn(2, *size, dtype=torch.float64, requires_grad=True)
    down, across = (resizing(*sides) for sides in zip(size, large, strict=True))
    made = down @ maps @ across.mT
    expected = F.interpolate(maps[:, None], large, mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(made, expected)
    slope = torch.randn_like(made)
    torch.testing.assert_close(
        torch.autograd.grad(made, maps, slope), torch.autograd.grad(expected, maps, slope)
    )


def test_the_same_size_is_the_same_map() -> None:
    maps = torch.rand(1, 2, 3, 4)
    assert resize_maps(maps, (3, 4), "bicubic") is maps


def test_an_unknown_mode() -> None:
    with pytest.raises(UsageError, match="unknown resize mode 'lanczos': use one of bilinear"):
        resize_maps(torch.rand(1, 1, 2, 2), (3, 3), "lanczos")


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=4, max_size=4))
def test_scaling_stays_in_range(values: list[float]) -> None:
    maps = torch.tensor(values, dtype=torch.float64).reshape(1, 2, 2)
    unit, relative = to_unit_range(maps), relative_to_maximum(maps)
    assert 0 <= unit.min() <= unit.max() <= 1
    assert relative.abs().max() <= 1
    assert unit.isfinite().all()
    assert relative.isfinite().all()
    if bool(varies(maps)):
        assert unit.max() == 1
        assert unit.min() == 0
    else:
        assert not unit.any()
    if maps.any():
        assert relative.abs().max() == 1


def test_constant_maps() -> None:
    maps = torch.stack([torch.zeros(2, 2), torch.ones(2, 2), torch.eye(2)])
    assert varies(maps).tolist() == [False, False, True]
    assert not to_unit_range(maps)[:2].any()
    assert not varies(torch.full((1, 2, 2), float("nan"))).any()


def test_only_half_precision_is_raised() -> None:
    for given_type, expected in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ):
        assert at_least_single(torch.ones(2, dtype=given_type)).dtype == expected


@pytest.mark.parametrize("numbers", [[2, 3, 4], [0], [1, 3], [4, 2, 0], [0, 2, 1], [2, 4, 4], []])
def test_rows_are_those_of_the_numbers(numbers: list[int]) -> None:
    tensor = torch.arange(10.0).reshape(5, 2)
    chosen = torch.tensor(numbers, dtype=torch.long)
    found = rows(tensor, chosen)
    assert torch.equal(found, tensor[chosen])
    follows = numbers in ([2, 3, 4], [0])
    assert (found.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()) is follows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_missing_is_replaced_exactly(dtype: torch.dtype) -> None:
    images, behind = (
        scale * torch.randn(4, 3, 7, 9, generator=torch.Generator().manual_seed(seed))
        for seed, scale in ((0, 1.0), (1, 1e-6))
    )
    missing = torch.rand(4, 7, 9, generator=torch.Generator().manual_seed(2)) < 0.5
    expected = torch.where(missing[:, None], behind.to(dtype), images.to(dtype))
    assert torch.equal(replaced(images.to(dtype), missing, behind.to(dtype)), expected)


def test_want_of_memory_tells_nothing_of_double_precision(monkeypatch) -> None:
    def refused(fault: Exception) -> bool:
        def zeros(*_, **__):
            raise fault

        with monkeypatch.context() as patch:
            patch.setattr(torch, "zeros", zeros)
            return has_doubles(torch.device("meta"))

    with pytest.raises(torch.OutOfMemoryError):
        refused(torch.OutOfMemoryError("out of memory"))
    has_doubles.cache_clear()
    assert not refused(TypeError("Cannot convert a MPS Tensor to float64"))
    has_doubles.cache_clear()
    assert not refused(RuntimeError("double is not supported"))
    has_doubles.cache_clear()
    assert has_doubles(torch.device("cpu"))
