"""Principal components of channels, by a batched Gram matrix and no decomposition an image."""

import torch
from jaxtyping import Float
from torch import Tensor


def first_component(values: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n h w"]:
    """Each cell's channels projected on their first right singular vector, without centring.

    A singular vector's sign is arbitrary: here it is the one whose projection points the way of the
    plain sum over channels.
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
    towards = (flat * rows.sum(-1)).sum(-1, keepdim=True)
    return torch.where(towards < 0, -flat, flat).reshape(*flat.shape[:-1], *values.shape[-2:])


def first_of_kernel(
    kernel: Float[Tensor, "*n m m"], sums: Float[Tensor, "*n m"]
) -> Float[Tensor, "*n m"]:
    """Each point's place along the first component of a kernel, which is centred here.

    A component's sign is arbitrary: here it is the one in whose direction ``sums`` grow. A kernel
    without a positive component gives zero.
    """
    means = kernel.mean(-1, keepdim=True)
    strength, vectors = _leading(kernel - means - means.mT + means.mean(-2, keepdim=True))
    flat = vectors * strength.sqrt()[..., None]
    towards = (flat * (sums - sums.mean(-1, keepdim=True))).sum(-1, keepdim=True)
    return torch.where(towards < 0, -flat, flat)


def _leading(gram: Float[Tensor, "*n m m"]) -> tuple[Tensor, Tensor]:
    """The largest eigenvalue and its vector; scaled first, so that squares cannot vanish."""
    scale = gram.abs().amax((-2, -1)).clamp_min(torch.finfo(gram.dtype).tiny)
    finite = torch.nan_to_num(gram / scale[..., None, None], 0, 0, 0)
    strengths, vectors = torch.linalg.eigh(finite)
    return strengths[..., -1].clamp_min(0) * scale, vectors[..., -1]
