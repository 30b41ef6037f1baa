"""Draws docs/methods.png: methods on one photo of a dog and a cat, for both of their classes.

.venv/bin/python docs/figure.py PHOTO WEIGHTS    (both.png of grad-cam and ImageNet's MobileNetV2)
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mitate import Classifier, Explainer, Explanation
from mitate.explain.methods import METHODS, Method

PLACE = Path(__file__).parent / "methods.png"
DOG, CAT = 243, 281  # bull mastiff, tabby
FEWER_CHANNELS = "blocks.6"  # 320 on the grid on which the last layer has 1280
FEWER = {"rise": {"samples": 500}, "occlusion": {"stride": 0.1}}
SHOWN = 0.98  # of the pixels' values, the colours of the rest being those of the highest of them
COLUMNS, SIDE, GAP, LINE, COLOURS = 5, 92, 10, 17, 200
INK, PAPER = "#1c1c1e", "#ffffff"


def main(photo: Path, weights: Path) -> None:
    """Explain, draw and write."""
    classifier = Classifier.load(f"timm:mobilenetv2_100@{weights}")
    picture = Image.open(photo).convert("RGB")
    drawn(explanations(classifier, picture, METHODS)).save(PLACE, optimize=True)


def explanations(
    classifier: Classifier, picture: Image.Image, names: Iterable[str]
) -> Iterator[Explanation]:
    """The maps of every method that a network without attention can have."""
    for method in map(METHODS.__getitem__, names):
        if method.family != "attention":
            layer, options = _layer(method), FEWER.get(method.name, {})
            explain = Explainer(classifier, method.name, layer, show_progress=False, **options)
            yield explain([picture], targets=[[DOG, CAT]])


def drawn(made: Iterable[Explanation]) -> Image.Image:
    """A cell a method: its name over the overlays of both classes; the photo comes first."""
    cells = []
    for explanation in made:
        if not cells:
            shown = explanation.shown()[0]
            cells.append(("the photo: a dog, a cat", [shown, shown]))
        cells.append((explanation.method, _seen(explanation).overlay()[0]))
    width, height = 2 * SIDE + GAP, SIDE + LINE + GAP
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width + GAP, rows * height + GAP), PAPER)
    letters, pen = ImageFont.load_default(13), ImageDraw.Draw(sheet)
    for place, (name, pictures) in enumerate(cells):
        left, top = place % COLUMNS * width + GAP, place // COLUMNS * height + GAP
        pen.text((left, top), name, fill=INK, font=letters)
        for side, one in enumerate(pictures):
            small = one.resize((SIDE - 1, SIDE - 1), Image.Resampling.LANCZOS)
            sheet.paste(small, (left + side * SIDE, top + LINE))
    return sheet.quantize(COLOURS, dither=Image.Dither.NONE)


def _layer(method: Method) -> str:
    """The last layer; before its channels grow, where each of them masks the image."""
    masks = method.cost.per_channel and not method.cost.partial
    return FEWER_CHANNELS if masks else "auto"


def _seen(explanation: Explanation) -> Explanation:
    """Maps of pixels without their few highest, beside which nothing else would be seen."""
    if METHODS[explanation.method].at_layer and METHODS[explanation.method].family != "pixels":
        return explanation
    flat = explanation.maps.flatten(2)
    high = flat.abs().quantile(SHOWN, dim=2)[..., None, None]
    return replace(explanation, maps=explanation.maps.clamp(-high, high))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
