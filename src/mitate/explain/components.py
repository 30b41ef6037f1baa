"""Principal components of channels, by a batched Gram matrix and no decomposition an image."""

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDING = 1e-4  # of what is added up
TINY = 1e-30


def first_component(values: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n h w"]:
    """Each cell's channels projected on their first right singular vector, without centring.

    A singular vector's sign is arbitrary: here it is the one whose projection points the way of the
    plain sum over channels (``_pointed``).
    """
    rows = values.flatten(-2).movedim(-1, -2)  # cells x channels
    cells, channels = rows.shape[-2:]
    if cells <= channels:
        gram = rows @ rows.mT
        strength, vectors = _leading(gram)
        flat = vectors * strength.sqrt()[..., None]
    else:
        _, vectors = _leading(rows.mT @ rows)
        flat = (rows @ vectors[..., None])[..., 0]
    pointed = _pointed(flat, rows.sum(-1), rows.abs().sum(-1))
    return pointed.reshape(*flat.shape[:-1], *values.shape[-2:])


def first_of_kernel(
    kernel: Float[Tensor, "*n m m"], sums: Float[Tensor, "*n m"], sizes: Float[Tensor, "*n m"]
) -> Float[Tensor, "*n m"]:
    """Each point's place along the first component of a kernel, which is centred here.

    A component's sign is arbitrary: here it is the one in whose direction ``sums`` grow
    (``_pointed``). A kernel without a positive component gives zero.
    """
    means = kernel.mean(-1, keepdim=True)
    strength, vectors = _leading(kernel - means - means.mT + means.mean(-2, keepdim=True))
    flat = vectors * strength.sqrt()[..., None]
    return _pointed(flat, sums - sums.mean(-1, keepdim=True), sizes)


def _pointed(
    flat: Float[Tensor, "*n m"], sums: Float[Tensor, "*n m"], sizes: Float[Tensor, "*n m"]
) -> Float[Tensor, "*n m"]:
    """A component with the sign that points the way of ``sums``.

    Where they are nothing but rounding of ``sizes``, as behind a layer norm that neither scales nor
    shifts, it is the sign that makes what stands out positive: of the larger sum of cubes.
    """
    along = (flat * sums).sum(-1, keepdim=True)
    rounding = ROUNDING * (flat.abs() * sizes).sum(-1, keepdim=True)
    cubes = (flat / flat.abs().amax(-1, keepdim=True).clamp_min(TINY)).pow(3).sum(-1, keepdim=True)
    towards = torch.where(along.abs() > rounding, along, cubes)
    return torch.where(towards < 0, -flat, flat)


def _leading(gram: Float[Tensor, "*n m m"]) -> tuple[Tensor, Tensor]:
    """The largest eigenvalue and its vector; scaled first, so that squares cannot vanish."""
    scale = gram.abs().amax((-2, -1)).clamp_min(torch.finfo(gram.dtype).tiny)
    finite = torch.nan_to_num(gram / scale[..., None, None], 0, 0, 0)
    strengths, vectors = torch.linalg.eigh(finite)
    return strengths[..., -1].clamp_min(0) * scale, vectors[..., -1]
