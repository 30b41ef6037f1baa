"""Where the maps of several methods lie, beside the controls, on the same images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mitate.audit.intervals import Interval, mean_interval, paired_interval
from mitate.audit.localisation import area_share, energy_share
from mitate.explain.explanation import Explanation
from mitate.explain.methods import METHODS, find_method

CONTROLS = tuple(name for name, method in METHODS.items() if method.is_control)


@dataclass(frozen=True)
class Place:
    """Where one method's maps lie.

    Attributes:
        method: its name.
        layer: where the network was tapped.
        control: whether it never looks at the network.
        energy: share of the map's energy on the mask.
        verdict: in words, against the best control.
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

    def add(
        self, explanations: Iterable[Explanation], masks: Float[Tensor, "b H W"]
    ) -> None:
        """Add the first target's maps of a batch of images."""
        first = True
        for explanation in explanations:
            found = energy_share(explanation.maps[:, 0], masks)
            key = (explanation.method, explanation.layer)
            self.shares.setdefault(key, []).extend(found.tolist())
            if first:
                self.areas.extend(area_share(masks).tolist())
                self.names.extend(explanation.names)
            first = False

    def __len__(self) -> int:
        return len(self.areas)

    def area(self) -> Interval:
        """Share of the images that the masks cover."""
        return mean_interval(np.asarray(self.areas))

    def places(self) -> tuple[Place, ...]:
        """One line a method, controls last, each with its verdict against the best control."""
        columns = {key: np.asarray(values) for key, values in self.shares.items()}
        best = _best_control(columns)
        places = [
            Place(
                method,
                layer,
                find_method(method).is_control,
                mean_interval(values),
                _verdict(method, values, best),
            )
            for (method, layer), values in columns.items()
        ]
        return tuple(sorted(places, key=lambda place: place.control))

    def rows(self) -> list[dict[str, object]]:
        """One plain row an image, for a CSV."""
        return [
            {
                "image": self.names[index],
                "mask_area": round(self.areas[index], 6),
                **{
                    f"{method} {layer}": round(values[index], 6)
                    for (method, layer), values in self.shares.items()
                },
            }
            for index in range(len(self))
        ]


def mask_batch(masks: Sequence[np.ndarray]) -> Float[Tensor, "b H W"]:
    """Stack masks that were brought to the network's input."""
    return torch.from_numpy(np.stack(masks))


def _best_control(
    columns: dict[tuple[str, str], np.ndarray],
) -> tuple[str, np.ndarray] | None:
    controls = {
        method: values
        for (method, _), values in columns.items()
        if find_method(method).is_control and np.isfinite(values).any()
    }
    if not controls:
        return None
    return max(controls.items(), key=lambda entry: float(np.nanmean(entry[1])))


def _verdict(method: str, values: np.ndarray, best: tuple[str, np.ndarray] | None) -> str:
    if best is None or find_method(method).is_control:
        return ""
    difference = paired_interval(values, best[1])
    if difference.images == 0:
        return "no map with energy on an image with a mask"
    if difference.low > 0:
        return f"better than every control (best: {best[0]})"
    return f"not better than the control {best[0]!r}"
