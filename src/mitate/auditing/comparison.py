"""Where the maps of several methods lie, beside the controls, on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mitate.auditing.intervals import Interval, mean_interval, paired_interval
from mitate.auditing.localisation import area_share, energy_share
from mitate.explain.explanation import Explanation
from mitate.explain.methods import METHODS, find_method

CONTROLS = tuple(name for name, method in METHODS.items() if method.is_control)
# With fewer, winning on every image is no proof: a sign test (5 %, two-sided) begins at six.
FEWEST = 6
Columns = dict[tuple[str, str], np.ndarray]


@dataclass(frozen=True)
class Place:
    """Where one method's maps lie.

    Attributes:
        method: its name.
        layer: where the network was tapped.
        control: whether it never looks at the network.
        energy: share of the map's energy on the mask.
        verdict: in words, against the controls.
    """

    method: str
    layer: str
    control: bool
    energy: Interval
    verdict: str = ""


@dataclass
class Comparison:
    """Collects the shares of several methods, image by image."""

    shares: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    areas: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(self, explanations: Sequence[Explanation], masks: Float[Tensor, "b H W"]) -> None:
        """Add the first target's maps of a batch of images, each method and layer once."""
        for explanation in explanations:
            found = energy_share(explanation.maps[:, 0].cpu(), masks)
            key = (explanation.method, explanation.layer)
            self.shares.setdefault(key, []).extend(found.tolist())
        start = len(self)
        self.areas.extend(area_share(masks).tolist())
        numbered = [f"image {number}" for number in range(start, len(self))]
        self.names.extend(explanations[0].names or numbered)

    def __len__(self) -> int:
        return len(self.areas)

    def area(self) -> Interval:
        """Share of the images that the masks cover."""
        return mean_interval(np.asarray(self.areas))

    def places(self) -> tuple[Place, ...]:
        """One line a method, controls last, each with its verdict against the controls."""
        columns = {key: np.asarray(values) for key, values in self.shares.items()}
        controls = _controls(columns)
        places = [
            Place(
                method,
                layer,
                find_method(method).is_control,
                mean_interval(values),
                "" if find_method(method).is_control else _verdict(values, controls),
            )
            for (method, layer), values in columns.items()
        ]
        return tuple(sorted(places, key=lambda place: place.control))

    def rows(self) -> list[dict[str, object]]:
        """One plain row an image, for a CSV; the last column tells which maps had no share."""
        left_out = [self._without_share(index) for index in range(len(self))]
        return [
            {
                "image": self.names[index],
                "mask_area": round(self.areas[index], 6),
                **{
                    f"{method} {layer}": _cell(values[index])
                    for (method, layer), values in self.shares.items()
                },
                **({"left_out": "; ".join(left_out[index])} if any(left_out) else {}),
            }
            for index in range(len(self))
        ]

    def _without_share(self, index: int) -> list[str]:
        """The methods in whose mean this image is not."""
        return [m for (m, _), values in self.shares.items() if not np.isfinite(values[index])]


def mask_batch(masks: Sequence[np.ndarray]) -> Float[Tensor, "b H W"]:
    """Stack masks that were brought to the network's input."""
    return torch.from_numpy(np.stack(masks))


def _cell(share: float) -> float | None:
    """A share for a table, where what is no number stands empty."""
    return round(share, 6) if np.isfinite(share) else None


def _controls(columns: Columns) -> list[tuple[str, np.ndarray]]:
    """The controls that have values, the best first."""
    found = [
        (method, values)
        for (method, _), values in columns.items()
        if find_method(method).is_control and np.isfinite(values).any()
    ]
    return sorted(found, key=lambda control: -float(np.nanmean(control[1])))


def _verdict(values: np.ndarray, controls: Sequence[tuple[str, np.ndarray]]) -> str:
    if not np.isfinite(values).any():
        return "no map has energy"
    if not controls:
        return ""
    differences = [(name, paired_interval(values, others)) for name, others in controls]
    images = min(difference.images for _, difference in differences)
    if images < FEWEST:
        return f"too few photos to judge: {images} of at least {FEWEST}"
    unbeaten = [name for name, difference in differences if difference.low <= 0]
    if unbeaten:
        return f"not better than the control {unbeaten[0]}"
    return f"better than every control (best: {differences[0][0]})"
