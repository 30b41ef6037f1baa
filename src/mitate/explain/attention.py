"""Attention probabilities, taken where they are computed: under fused kernels too.

timm fuses, torch's multi-head attention hides its weights, and Hugging Face asks for its eager
mode. All of them call a function of torch in the end, and there the probabilities are taken: no
flag is set and no module is changed, and the logits are those of the plain formula.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from mitate.sharing import Together

SOFTMAX = (torch.softmax, F.softmax, Tensor.softmax)
AXES = (4, 5)  # heads, queries and keys behind the batch, and windows before or behind the heads
# Attention by the plain formula, which can be differentiated twice: a switch of the whole process.
plain_attention = Together(lambda: sdpa_kernel(SDPBackend.MATH))


@dataclass(frozen=True)
class Attention:
    """Attention probabilities of the blocks over one grid of tokens, first to last.

    Attributes:
        probabilities: an entry a block, (b, heads, queries, keys); rows add up to 1.
        slopes: their gradients, an entry a block, (b, k, heads, queries, keys), when asked for.
        own_slopes: the same of each block's own score: that of its tokens in the place of the last
            block's, or of the mean of its tokens, when asked for.
        readers: the tokens that the head reads: the class token, or the patches.
        prefix: tokens before the patches.
        size: height and width of the patches' grid.
    """

    probabilities: tuple[Float[Tensor, "b heads n n"], ...]
    slopes: Callable[[], tuple[Float[Tensor, "b k heads n n"], ...]]
    own_slopes: Callable[[bool], tuple[Float[Tensor, "b k heads n n"], ...]]
    readers: Bool[Tensor, " n"]
    prefix: int
    size: tuple[int, int]

    @property
    def reads_patches(self) -> bool:
        """Whether the head reads the patches themselves."""
        return bool(self.readers[self.prefix :].any())

    def seen(self, matrix: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b h w"]:
        """What the readers take of each patch: the mean of their rows, folded."""
        return self.folded(matrix[..., self.readers, :].mean(-2))

    def folded(self, row: Float[Tensor, "*b n"]) -> Float[Tensor, "*b h w"]:
        """The patches among tokens, on their grid."""
        patches = row[..., self.prefix :]
        return patches.reshape(*patches.shape[:-1], *self.size)


def readers(last: Float[Tensor, "b heads n n"], prefix: int) -> Bool[Tensor, " n"]:
    """Which tokens the head reads, by the gradients at the last block's probabilities.

    Where none of the patches' rows counts, it is those before them that do; otherwise the patches.
    """
    counts = last.flatten(0, 1).abs().sum((0, 2)) > 0
    patches = torch.arange(len(counts), device=counts.device) >= prefix
    if (counts & patches).any() or not prefix:
        return patches
    if counts.any():
        return counts
    return torch.arange(len(counts), device=counts.device) == 0


class AttentionTap(TorchFunctionMode):
    """Keeps every attention's probabilities, and tokens' scores with themselves, while entered.

    Probabilities become part of the graph where ``gradients`` is wanted; recording begins there.
    """

    def __init__(self, *, gradients: bool) -> None:
        super().__init__()
        self.gradients = gradients
        self.kept: list[Tensor] = []
        self.diagonals: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take the place of attention and of softmax over square matrices."""
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            return self._attended(*args, **given)
        if func is F.multi_head_attention_forward and _is_plain(*args, **given):
            return self._attended_by_module(*args, **given)
        output = func(*args, **given)
        if func in SOFTMAX and _is_attention(output):
            return self._keep(output, args[0] if args else given["input"])
        return output

    def _attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if is_causal or enable_gqa:
            return F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask,
                dropout_p,
                is_causal,
                scale=scale,
                enable_gqa=enable_gqa,
            )
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        scores = query * factor @ key.mT
        if attn_mask is not None:
            scores = (
                scores.masked_fill(~attn_mask, float("-inf"))
                if attn_mask.dtype == torch.bool
                else scores + attn_mask
            )
        return self._keep(scores.softmax(-1), scores) @ value

    def _attended_by_module(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        width: int,
        heads: int,
        in_weight: Tensor,
        in_bias: Tensor | None,
        *rest: Any,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Torch's multi-head attention of tokens (n, b, width), in the open."""
        out_weight, out_bias = rest[4:6]
        tokens, number = query.shape[:2]
        parts = F.linear(query, in_weight, in_bias).reshape(tokens, number, 3, heads, -1)
        mask = attn_mask
        if mask is not None and mask.dtype == torch.bool:
            mask = ~mask  # what is true is hidden there, and seen in scaled_dot_product_attention
        if mask is not None and mask.ndim == 3:
            mask = mask.reshape(number, heads, tokens, tokens)
        queries, keys, values = parts.permute(2, 1, 3, 0, 4)
        given = self._attended(queries, keys, values, mask)
        output = F.linear(given.permute(2, 0, 1, 3).flatten(2), out_weight, out_bias)
        if not need_weights:
            return output, None
        seen = self.kept[-1]
        return output, seen.mean(1) if average_attn_weights else seen

    def _keep(self, probabilities: Tensor, scores: Tensor) -> Tensor:
        if probabilities.ndim == 3:  # of one head
            return self._keep(probabilities[:, None], scores[:, None])[:, 0]
        if probabilities.ndim not in AXES:
            return probabilities
        self.diagonals.append(scores.detach().diagonal(dim1=-2, dim2=-1))
        if not self.gradients:
            self.kept.append(probabilities.detach())
            return probabilities
        torch.set_grad_enabled(True)
        leaf = probabilities if probabilities.requires_grad else probabilities.detach()
        self.kept.append(leaf if leaf.requires_grad else leaf.requires_grad_())
        return self.kept[-1]


def _is_plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    width: int,
    heads: int,
    in_weight: Tensor | None,
    in_bias: Tensor | None,
    *rest: Any,
    key_padding_mask: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    **_: Any,
) -> bool:
    """Whether torch's multi-head attention is of a batch of tokens to themselves, no key added."""
    added = (*rest[:2], key_padding_mask, static_k, static_v)  # biases of keys and of values
    itself = query is key is value or (torch.equal(query, key) and torch.equal(key, value))
    return (
        query.ndim == 3
        and in_weight is not None
        and all(tensor is None for tensor in added)
        and not rest[2]
        and itself
    )


def _is_attention(output: Any) -> bool:
    known = isinstance(output, Tensor) and output.ndim in (3, *AXES)
    return known and output.shape[-1] == output.shape[-2]
