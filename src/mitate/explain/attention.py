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
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

SOFTMAX = (torch.softmax, F.softmax, Tensor.softmax)


@dataclass(frozen=True)
class Attention:
    """Attention probabilities of every block, first to last, and their gradients.

    Attributes:
        probabilities: an entry a block, (b, heads, queries, keys); rows add up to 1.
        gradients: an entry a block, (b, k, heads, queries, keys), of every target's score.
        prefix: tokens before the patches.
    """

    probabilities: tuple[Float[Tensor, "b heads n n"], ...]
    gradients: tuple[Float[Tensor, "b k heads n n"], ...]
    prefix: int


class AttentionTap(TorchFunctionMode):
    """Keeps every attention's probabilities while it is entered.

    What is kept becomes part of the graph where ``gradients`` is wanted; recording begins there.
    """

    def __init__(self, *, gradients: bool) -> None:
        super().__init__()
        self.gradients = gradients
        self.kept: list[Tensor] = []

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
        if func is F.multi_head_attention_forward:
            with self:  # its own calls are of interest too
                return func(*args, **given)
        output = func(*args, **given)
        if func in SOFTMAX and _is_attention(output):
            return self._keep(output)
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
        return self._keep(scores.softmax(-1)) @ value

    def _keep(self, probabilities: Tensor) -> Tensor:
        if not self.gradients:
            self.kept.append(probabilities.detach())
            return probabilities
        torch.set_grad_enabled(True)
        leaf = probabilities if probabilities.requires_grad else probabilities.detach()
        self.kept.append(leaf if leaf.requires_grad else leaf.requires_grad_())
        return self.kept[-1]


def _is_attention(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] == output.shape[-2]
