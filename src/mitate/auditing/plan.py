"""One plan of the altered images that all metrics of all contenders need, each once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mitate.auditing.sample import Contender, Sample
from mitate.auditing.steps import Step, Whole
from mitate.auditing.table import Metric

COMMON = ""
Answers = dict[tuple[str, Step], Float[Tensor, " b"]]
Rows = dict[str, list[tuple[Step, ...]]]


@dataclass(frozen=True)
class Plan:
    """What is run, and the rows of steps from which each metric has its answers.

    Attributes:
        rows: by metric, a row of steps for each of its answers.
        common: steps that do not depend on the map, once for all contenders.
        own: steps that each contender's map alters.
    """

    rows: Rows
    common: tuple[Step, ...]
    own: tuple[Step, ...]

    @classmethod
    def of(cls, metrics: Sequence[Metric], options: Mapping[str, Mapping[str, Any]]) -> "Plan":
        """The plan of metrics with their options."""
        rows = {metric.name: metric.rows(options[metric.name]) for metric in metrics}
        every = dict.fromkeys(step for asked in rows.values() for row in asked for step in row)
        altered = [step for step in every if not isinstance(step, Whole)]
        common = tuple(step for step in altered if step.is_common)
        return cls(rows, common, tuple(step for step in altered if not step.is_common))

    def forwards(self, contenders: int) -> int:
        """Altered images an image."""
        return len(self.common) + contenders * len(self.own)

    def run(self, sample: Sample, contenders: Mapping[str, Contender]) -> Answers:
        """Probability of the class for every altered image; 0 where a map is not valid."""
        slots = [(COMMON, step) for step in self.common]
        slots += [(name, step) for name in contenders for step in self.own]
        if not slots:
            return {}
        always = torch.ones(len(sample.images), dtype=torch.bool, device=sample.images.device)
        wanted = [contenders[name].valid if name else always for name, _ in slots]

        def make(owners: Int[Tensor, " n"], numbers: Int[Tensor, " n"]) -> Tensor:
            runs, lengths = torch.unique_consecutive(numbers, return_counts=True)
            parts = torch.split(owners, lengths.tolist())
            pictures = []
            for number, part in zip(runs.tolist(), parts, strict=True):
                name, step = slots[number]
                assert not isinstance(step, Whole)
                pictures.append(step.pictures(sample, contenders.get(name), part))
            return pictures[0] if len(pictures) == 1 else torch.cat(pictures)

        found = sample.scorer.altered(torch.stack(wanted, 1), make)[..., 0]
        return dict(zip(slots, found.unbind(1), strict=True))

    def answers(self, metric: Metric, contender: Contender, found: Answers) -> list[Tensor]:
        """A metric's answers (b, steps) for one contender."""

        def answer(step: Step) -> Float[Tensor, " b"]:
            if isinstance(step, Whole):
                return contender.own
            return found[(COMMON if step.is_common else contender.name), step]

        return [torch.stack([answer(s) for s in row], 1) for row in self.rows[metric.name]]
