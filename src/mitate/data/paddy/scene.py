"""What stands before the camera, drawn before and without regard to the disease.

Every photo shows a hill of rice: broad leaves, the central whorl of a tiller, and a panicle.
A scene depends on nothing but its generator, so it cannot betray the class.
"""

from dataclasses import dataclass, replace

import numpy as np

from mitate.data.paddy.canvas import Colour
from mitate.data.paddy.leaf import Blade

GREENS: tuple[Colour, ...] = (
    (0.29, 0.46, 0.14),
    (0.36, 0.52, 0.17),
    (0.43, 0.57, 0.22),
    (0.27, 0.45, 0.21),
    (0.38, 0.51, 0.13),
)


@dataclass(frozen=True)
class Shoot:
    """The central whorl: a rolled young leaf and an opening one rise from a sheath."""

    spindle: Blade
    opening: Blade
    sheath: Blade


@dataclass(frozen=True)
class Panicle:
    """The ear: its neck's foot, direction, nod, size and ripeness (0 green, 1 golden)."""

    foot: tuple[float, float]
    angle: float
    nod: float
    length: float
    grains: int
    grain_length: float
    ripeness: float


@dataclass(frozen=True)
class Scene:
    """Everything painted, from the back to the front, and the seeds of its textures."""

    back: tuple[Blade, ...]
    front: tuple[Blade | Shoot | Panicle, ...]
    seed: int


def compose(rng: np.random.Generator) -> Scene:
    """Arrange a hill: four lanes for two broad leaves, the whorl and the panicle."""
    tilt = float(np.clip(rng.normal(0, 0.3), -0.8, 0.8))
    green = hue(rng)
    lanes = rng.permutation([-0.34, -0.12, 0.12, 0.34]) + rng.normal(0, 0.035, 4)
    zoom = rng.uniform(1.05, 1.3)
    front = [
        broad_leaf(rng, lane(tilt, lanes[0]), tilt, zoom * rng.uniform(0.075, 0.098), green),
        broad_leaf(rng, lane(tilt, lanes[1]), tilt, zoom * rng.uniform(0.065, 0.09), green),
        shoot(rng, lane(tilt, lanes[2]), tilt, zoom, green),
        panicle(rng, float(lanes[3]), tilt, zoom),
    ]
    back = tuple(back_leaf(rng, tilt, zoom, green) for _ in range(rng.integers(2, 5)))
    order = rng.permutation(4)
    return Scene(back, tuple(front[i] for i in order), int(rng.integers(2**62)))


def hue(rng: np.random.Generator) -> Colour:
    """A hill's green: nitrogen, variety and age."""
    base = np.asarray(GREENS[rng.integers(len(GREENS))])
    red, green, blue = base * rng.uniform(0.9, 1.12) + rng.normal(0, 0.012, 3)
    return float(red), float(green), float(blue)


def vary(rng: np.random.Generator, colour: Colour, lift: float = 0.0) -> Colour:
    """A neighbour of a colour; lift makes it paler and yellower."""
    red, green, blue = np.asarray(colour) * rng.normal(1, 0.05)
    return float(red + lift), float(green + 0.8 * lift), float(blue + 0.3 * lift)


def lane(tilt: float, across: float) -> tuple[float, float]:
    """The point of a lane at the level of the picture's centre."""
    return float(0.5 + across * np.cos(tilt)), float(0.5 + across * np.sin(tilt))


def behind(point: tuple[float, float], angle: float, distance: float) -> tuple[float, float]:
    """The point so far back against a direction of growth."""
    x, y = point
    return float(x - distance * np.sin(angle)), float(y + distance * np.cos(angle))


def broad_leaf(
    rng: np.random.Generator,
    through: tuple[float, float],
    tilt: float,
    half_width: float,
    green: Colour,
) -> Blade:
    """A leaf close to the camera; its tip lies in the picture or not far beyond."""
    angle = tilt + rng.normal(0, 0.13)
    length = rng.uniform(1.3, 1.7)
    tip_at = rng.uniform(0.36, 0.66)
    return Blade(
        base=behind(through, angle, length - tip_at),
        angle=float(angle),
        length=float(length),
        half_width=float(half_width),
        bend=float(rng.normal(0, 0.07)),
        root_colour=vary(rng, green),
        tip_colour=vary(rng, green, 0.05),
        fold=float(rng.choice([-1, 1]) * rng.uniform(0.05, 0.17)),
        gloss=float(rng.uniform(0.05, 0.4)),
        gloss_at=float(rng.uniform(-0.7, 0.7)),
        light_at=float(rng.uniform(0, 6.28)),
        dry_tip=float(rng.uniform(0.03, 0.09)) if rng.random() < 0.3 else 0.0,
        holes=int(rng.integers(1, 4)) if rng.random() < 0.15 else 0,
    )


def back_leaf(rng: np.random.Generator, tilt: float, zoom: float, green: Colour) -> Blade:
    """A narrower leaf further back, fanning out of the hill."""
    angle = tilt + rng.normal(0, 0.5)
    through = lane(tilt, rng.uniform(-0.45, 0.45))
    leaf = broad_leaf(rng, through, tilt, zoom * rng.uniform(0.035, 0.055), vary(rng, green, -0.06))
    length = rng.uniform(1.0, 1.5)
    return replace(
        leaf,
        base=behind(through, angle, length * 0.55),
        angle=float(angle),
        length=float(length),
        bend=float(np.sign(angle - tilt) * rng.uniform(0.0, 0.3)),
        holes=0,
        softness=float(rng.uniform(1.0, 5.0)),
    )


def shoot(
    rng: np.random.Generator, through: tuple[float, float], tilt: float, zoom: float, green: Colour
) -> Shoot:
    """The whorl stands upright in its lane; the sheath hides its lower part."""
    angle = tilt + rng.normal(0, 0.06)
    thick = zoom * rng.uniform(0.045, 0.058)
    top = rng.uniform(0.36, 0.52)
    young = vary(rng, green, rng.uniform(0.05, 0.16))
    spindle = Blade(
        base=behind(through, angle, 0.35),
        angle=float(angle),
        length=float(0.35 + top),
        half_width=float(thick),
        bend=float(rng.normal(0, 0.03)),
        root_colour=young,
        tip_colour=vary(rng, young, 0.02),
        gloss=float(rng.uniform(0.05, 0.25)),
        rolled=True,
    )
    lean = rng.choice([-1, 1]) * rng.uniform(0.16, 0.3)
    opening = replace(
        spindle,
        angle=float(angle + lean),
        base=behind(through, angle, 0.22),
        length=float(rng.uniform(0.5, 0.65)),
        half_width=float(thick * 0.75),
        bend=float(np.sign(lean) * rng.uniform(0.0, 0.12)),
        rolled=False,
    )
    return Shoot(spindle, opening, sheath(rng, spindle, through, green))


def sheath(
    rng: np.random.Generator, spindle: Blade, through: tuple[float, float], green: Colour
) -> Blade:
    """The pale tube from which the whorl rises."""
    return replace(
        spindle,
        base=behind(through, spindle.angle, 0.9),
        length=float(0.9 - rng.uniform(0.08, 0.18)),
        half_width=spindle.half_width * 1.25,
        bend=0.0,
        root_colour=vary(rng, green, 0.1),
        tip_colour=vary(rng, green, 0.12),
    )


def panicle(rng: np.random.Generator, across: float, tilt: float, zoom: float) -> Panicle:
    """An ear, green to golden, upright to nodding; from an outer lane it nods inward."""
    angle = tilt + rng.normal(0, 0.12)
    side = rng.choice([-1, 1]) if abs(across) < 0.25 else -np.sign(across)
    return Panicle(
        foot=behind(lane(tilt, across), angle, 0.62),
        angle=float(angle),
        nod=float(side * rng.uniform(0.1, 1.1)),
        length=float(rng.uniform(1.0, 1.15)),
        grains=int(rng.integers(50, 70)),
        grain_length=float(zoom * rng.uniform(0.062, 0.076)),
        ripeness=float(0.8 * rng.beta(1.2, 1.2)),
    )
