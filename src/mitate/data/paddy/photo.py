"""One simulated photo: a scene, a disease painted into it, a camera, and the exact mask."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from mitate.data.paddy import camera
from mitate.data.paddy.backdrop import backdrop
from mitate.data.paddy.canvas import Canvas, Colour, Colours, flat, mix, smooth
from mitate.data.paddy.ear import paint_panicle
from mitate.data.paddy.fades import bacterial_leaf_blight, tungro
from mitate.data.paddy.innocents import drops, holes, soil
from mitate.data.paddy.leaf import Blade, Surface, surface_of
from mitate.data.paddy.scene import Panicle, Scene, Shoot, compose
from mitate.data.paddy.spots import bacterial_leaf_streak, blast, brown_spot, downy_mildew, hispa
from mitate.errors import UsageError

LEAF_SYMPTOMS = {
    "bacterial_leaf_blight": bacterial_leaf_blight,
    "bacterial_leaf_streak": bacterial_leaf_streak,
    "blast": blast,
    "brown_spot": brown_spot,
    "downy_mildew": downy_mildew,
    "hispa": hispa,
    "tungro": tungro,
}
CLASSES: tuple[str, ...] = (
    "normal",
    "bacterial_leaf_blight",
    "bacterial_leaf_streak",
    "bacterial_panicle_blight",
    "blast",
    "brown_spot",
    "dead_heart",
    "downy_mildew",
    "hispa",
    "tungro",
)
SUPERSAMPLING = 2
LEAST_SIZE = 64
DEAD: Colour = (0.80, 0.70, 0.50)
ROTTEN: Colour = (0.50, 0.36, 0.20)


@dataclass(frozen=True)
class Photo:
    """A simulated photo, image (size, size, 3), and its mask: 0 background, 1 plant, 2 symptom."""

    image: UInt8[np.ndarray, "size size 3"]
    mask: UInt8[np.ndarray, "size size"]


def draw(disease: str, rng: np.random.Generator, size: int = 128) -> Photo:
    """Draw one photo.

    The scene, the light and the camera come from the generator alone: equal generators give
    the same photo for every disease, but for the symptom's own pixels.

    Args:
        disease: one of CLASSES.
        rng: where all chance comes from; two numbers are taken from it.
        size: pixels a side, at least 64.

    Raises:
        UsageError: an unknown disease or a size below 64.
    """
    check(disease, size)
    scene_seed, symptom_seed = (int(seed) for seed in rng.integers(2**62, size=2))
    scene_rng = np.random.default_rng(scene_seed)
    scene, shot = compose(scene_rng), camera.set_up(scene_rng)
    symptom_rng = np.random.default_rng(symptom_seed)
    canvas = paint(scene, disease, symptom_rng, size * SUPERSAMPLING)
    return Photo(camera.shoot(shot, canvas, size), camera.label(canvas, size))


def check(disease: str, size: int) -> None:
    """Refuse what cannot be drawn."""
    if disease not in CLASSES:
        raise UsageError(f"no disease {disease!r}; choose one of {', '.join(CLASSES)}")
    if size < LEAST_SIZE:
        raise UsageError(f"{size} pixels are too few to show a lesion; use {LEAST_SIZE} or more")


def paint(scene: Scene, disease: str, symptom_rng: np.random.Generator, side: int) -> Canvas:
    """Paint a scene from the back to the front, with the disease where it belongs."""
    rng = np.random.default_rng(scene.seed)
    canvas = Canvas(backdrop(rng, side))
    for blade in scene.back:
        paint_blade(canvas, blade, disease, rng, symptom_rng, innocents=False)
    for organ in scene.front:
        if isinstance(organ, Blade):
            paint_blade(canvas, organ, disease, rng, symptom_rng, innocents=True)
        elif isinstance(organ, Shoot):
            paint_shoot(canvas, organ, disease, rng)
        else:
            paint_panicle(canvas, organ, rng, sick_grains(organ, disease, symptom_rng))
    return canvas


def paint_blade(
    canvas: Canvas,
    blade: Blade,
    disease: str,
    rng: np.random.Generator,
    symptom_rng: np.random.Generator,
    *,
    innocents: bool,
) -> None:
    """Paint a leaf with its shadow, its symptoms and what else lies on it."""
    surface = surface_of(canvas, blade, rng)
    luck, own = rng.random(3), np.random.default_rng(int(rng.integers(2**62)))
    if not len(surface.along):
        return
    if blade.holes:
        surface = replace(surface, cover=surface.cover * holes(surface, own, blade.holes))
    spread = LEAF_SYMPTOMS.get(disease)
    if spread and (innocents or symptom_rng.random() < 0.8):
        colour, opacity = spread(surface, symptom_rng)
        canvas.paint(surface.pixels, mix(surface.colour, colour, opacity), surface.cover, opacity)
    else:
        canvas.paint(surface.pixels, surface.colour, surface.cover)
    if innocents and luck[0] < 0.3:
        soil(canvas, surface, own)
    if innocents and luck[1] < 0.35:
        drops(canvas, surface, own)


def paint_shoot(canvas: Canvas, shoot: Shoot, disease: str, rng: np.random.Generator) -> None:
    """Paint the whorl; a dead heart is dry and straw-coloured down into its green sheath."""
    for blade in (shoot.opening, shoot.spindle):
        surface = surface_of(canvas, blade, rng)
        colour, opacity = surface.colour, np.zeros_like(surface.cover)
        if disease == "dead_heart":
            colour, opacity = dead(surface), np.ones_like(opacity)
        canvas.paint(surface.pixels, colour, surface.cover, opacity)
    surface = surface_of(canvas, shoot.sheath, rng)
    canvas.paint(surface.pixels, surface.colour, surface.cover)


def dead(surface: Surface) -> Colours:
    """The dried whorl: whitish straw above, brown below where the borer cut it."""
    rot = smooth(0.5, 0.15, surface.along / surface.length + 0.1 * surface.texture)
    tone = mix(flat(DEAD, len(rot)), ROTTEN, rot)
    tone *= 0.62 + 0.8 * surface.colour.mean(axis=0)
    return tone


def sick_grains(panicle: Panicle, disease: str, rng: np.random.Generator) -> np.ndarray:
    """Which grains of an ear are blighted: most or nearly all of them, in patches."""
    if disease != "bacterial_panicle_blight":
        return np.zeros(panicle.grains, np.float32)
    return (rng.random(panicle.grains) < rng.uniform(0.75, 1.0)).astype(np.float32)
