"""A page that sets a classifier beside the one that was to cure it, with pictures."""

import os
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from mitate.drawing.colour import OPACITY
from mitate.files import write_text
from mitate.view.contents import GroupCard, MapPicture
from mitate.view.report import HERE, environment


@dataclass(frozen=True)
class Line:
    """One figure in words, of both classifiers, and its change."""

    what: str
    before: str
    after: str
    change: str = ""


@dataclass(frozen=True)
class Sight:
    """One photo with the maps of both classifiers, method by method."""

    name: str
    picture: Image.Image
    before: tuple[MapPicture, ...]
    after: tuple[MapPicture, ...]


@dataclass(frozen=True)
class Telling:
    """What the page holds.

    Attributes:
        title: of the page.
        subtitle: one sentence more.
        told: what happened, a sentence each.
        lines: the figures.
        before: groups that the first classifier decides alike.
        after: groups of the second.
        sights: photos with the maps of both.
    """

    title: str
    subtitle: str
    told: tuple[str, ...]
    lines: tuple[Line, ...]
    before: tuple[GroupCard, ...]
    after: tuple[GroupCard, ...]
    sights: tuple[Sight, ...]


def write_telling(telling: Telling, path: str | os.PathLike[str]) -> Path:
    """Write the page, which needs nothing else, and its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    style = Markup((HERE / "report.css").read_text(encoding="utf-8"))
    page = environment().get_template("story.html")
    return write_text(path, page.render(telling=telling, style=style, opacity=OPACITY))
