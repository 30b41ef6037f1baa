"""Which attention of a forward is over a layer's grid, and what it says there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.errors import LayerError
from mitate.explain.around import Around, diagonal
from mitate.explain.attention import Attention, readers
from mitate.explain.grid import Grid, readings
from mitate.explain.tap import TappedForward, replaced_forward, tapped_forward
from mitate.explain.tokens import possible_prefixes
from mitate.explain.windows import unwindowed, window_order, windows_first
from mitate.models.classifier import Classifier
from mitate.tensors import at_least_single

Score = Callable[[Tensor, Tensor], Tensor]
HEADS_FIRST = 4  # axes, of (b, heads, queries, keys)
FOLDED = -1
ALIKE = 0.01  # of the largest difference between heads or images


@dataclass(frozen=True)
class Block:
    """An attention over the layer's grid.

    Attributes:
        index: which of the forward's.
        order: the cell of each token of each window; None where it is over all tokens at once.
        around: the outermost call that holds it alone and gives the grid; None where there is none.
        axis: of the windows, as ``windows_first`` has it; FOLDED where heads lie in the batch.
    """

    index: int
    order: Int[Tensor, "windows n"] | None
    around: Around | None
    axis: int = 0


@dataclass(frozen=True)
class Blocks:
    """The attention over a layer's grid in one forward of a batch.

    Attributes:
        classifier: whose network it is.
        inputs: the preprocessed images.
        classes: the explained classes.
        score: what is differentiated.
        forward: with attention kept.
        grid: of the layer.
        layer: its name.
    """

    classifier: Classifier
    inputs: Float[Tensor, "b channels H W"]
    classes: Int[Tensor, "b k"]
    score: Score
    forward: TappedForward
    grid: Grid
    layer: str

    def attention(self) -> Attention:
        """What the blocks attend to.

        Raises:
            LayerError: no block attends over the layer's grid, or none whose windows can be told.
        """
        blocks = [block for i in range(len(self.forward.probabilities)) for block in self._block(i)]
        if not blocks:
            raise LayerError(self._nothing())
        # Where class tokens come in behind the last of them, blocks are over the cells alone.
        prefix = self.grid.prefix if any(block.order is None for block in blocks) else 0
        if prefix:
            blocks = [block for block in blocks if block.order is None]
        last = self._slopes(self.classes[:, :1], blocks[-1:])[0][:, 0]
        kept = [self.forward.probabilities[block.index].detach() for block in blocks]
        return Attention(
            tuple(self._over_grid(*pair) for pair in zip(kept, blocks, strict=True)),
            partial(self._slopes, self.classes, blocks),
            partial(self._own_slopes, blocks),
            readers(last, prefix),
            prefix,
            (self.grid.height, self.grid.width),
        )

    def _block(self, index: int) -> Sequence[Block]:
        """An attention as a block, where it is over the grid and can be told."""
        shape, tokens = self.forward.probabilities[index].shape, self.grid.prefix + self.grid.cells
        outward = self.forward.around[index]
        if shape[-2] != shape[-1]:  # from some tokens to others, as of fewer keys or a class token
            return []
        over = [around for around in outward if self._grid_of(around.output) is not None]
        around = over[-1] if over else None
        axes = (0,) if len(shape) == HEADS_FIRST else (1, 2)
        if shape[0] == len(self.inputs) and shape[-1] == tokens:
            for axis in axes:
                if not axis or shape[axis] == 1:
                    return [Block(index, None, around, axis)]
        if self._folds_heads(index, tokens):
            return [Block(index, None, around, FOLDED)]
        if around is None:
            return []
        for axis in axes:
            windows = shape[axis] * (len(self.inputs) if axis else 1)
            if windows * shape[-1] < len(self.inputs) * self.grid.cells:
                continue
            for holder in reversed(outward):
                grid = self._grid_of(holder.input)
                if grid is not None and grid.prefix == 0:
                    probe = partial(diagonal, self.classifier.network, holder)
                    order = window_order(holder.place.module, holder.input, grid, axis, probe)
                    if order is not None:
                        return [Block(index, order, around, axis)]
        return []

    def _folds_heads(self, index: int, tokens: int) -> bool:
        """Whether an attention is over all tokens, (b x heads, n, n), an image after the other."""
        kept = self.forward.probabilities[index]
        rows, heads, batch = kept.shape[0], kept.shape[1], len(self.inputs)
        if heads != 1 or kept.shape[-1] != tokens or rows % batch:
            return False
        first = self._of_one_image[index].to(kept)
        if len(first) != rows // batch:
            return False
        # In half precision, or where attention is nearly even, images cannot be told from heads.
        spread = (kept - kept.mean(0)).abs().max()
        return bool((first - kept[: len(first)]).abs().max() <= ALIKE * spread)

    @cached_property
    def _of_one_image(self) -> tuple[Tensor, ...]:
        """The probabilities of the first image by itself."""
        network, read = self.classifier.network, self.classifier.read
        forward = tapped_forward(network, self.inputs[:1], [], read=read, attention=True)
        return forward.probabilities

    def _grid_of(self, tensor: Tensor) -> Grid | None:
        """The layer's grid, as it lies in another tensor."""
        if len(tensor) != len(self.inputs):
            return None
        prefixes = possible_prefixes(self.classifier.network)
        found = readings(tensor.shape, tuple(self.inputs.shape[2:]), None, prefixes)
        sides = self.grid.height, self.grid.width
        return next((grid for grid in found if (grid.height, grid.width) == sides), None)

    def _over_grid(self, matrices: Tensor, block: Block) -> Tensor:
        exact = at_least_single(matrices)
        if block.axis == FOLDED:
            apart = exact.reshape(len(self.inputs), -1, *exact.shape[1:])
            return apart.squeeze(-3).movedim(1, -3)
        laid = windows_first(exact, block.axis, 3)
        return laid if block.order is None else unwindowed(laid, block.order, self.grid.cells)

    def _slopes(self, classes: Tensor, blocks: Sequence[Block]) -> tuple[Tensor, ...]:
        scores = self.score(self.forward.logits, classes)
        given = self.forward.attention_gradients(scores)
        return tuple(self._over_grid(given[block.index], block) for block in blocks)

    def _own_slopes(self, blocks: Sequence[Block], pooled: bool) -> tuple[Tensor, ...]:
        """Gradients of each block's own score, its tokens in the place of the last block's."""
        holders = [block.around for block in blocks if block.around is not None]
        shapes = {holder.output.shape for holder in holders}
        if len(holders) < len(blocks) or len(shapes) > 1:
            raise LayerError(
                f"the tokens behind each attention cannot be told at {self.layer!r}, so a block "
                "has no score of its own: use method='gradrollout'"
            )
        grid = self._grid_of(holders[-1].output)
        outputs = [holder.output for holder in holders]
        # What a block's own score depends on, and no other block's.
        taken = [output.view_as(output) for output in outputs]
        given = [grid.pooled(tokens) for tokens in taken] if pooled and grid is not None else taken
        network, read = self.classifier.network, self.classifier.read
        place = holders[-1].place

        def logits_of(tokens: Tensor) -> Tensor:
            return replaced_forward(network, self.inputs, place, tokens, read=read)

        try:
            logits = logits_of(torch.cat(given))
        except RuntimeError:  # it holds to the number of images that it began with
            logits = torch.cat([logits_of(tokens) for tokens in given])
        scores = self.score(logits, self.classes.repeat(len(given), 1))
        # From all scores of a class to all tokens at once, and then within each block.
        found: list[list[Tensor]] = [[] for _ in blocks]
        for k in range(scores.shape[1]):
            slopes = self.forward.slopes(scores[:, k], taken)
            for own, block, output, slope in zip(found, blocks, outputs, slopes, strict=True):
                along = (output * slope).flatten(1).sum(1)
                own += self.forward.slopes(along, (self.forward.probabilities[block.index],))
        return tuple(
            self._over_grid(torch.stack(own, 1), block)
            for own, block in zip(found, blocks, strict=True)
        )

    def _nothing(self) -> str:
        every = self.forward.probabilities
        tokens = self.grid.prefix + self.grid.cells
        over = ", ".join(str(n) for n in dict.fromkeys(kept.shape[-1] for kept in every))
        none = "it has no attention of as many keys as queries"
        there = f"it attends over {over} tokens" if every else none
        return (
            f"no block of this network is seen to attend over the {tokens} tokens of "
            f"{self.layer!r} ({there}; windows are put back where a block's input is the grid "
            "itself): name a layer of the transformer's grid, or use a method of gradients, such "
            "as layercam"
        )
