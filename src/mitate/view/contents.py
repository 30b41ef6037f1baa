"""What a report consists of: values only, no page and no numbers derived."""

from dataclasses import dataclass
from itertools import groupby

from PIL import Image

from mitate.drawing.colour import OPACITY
from mitate.training.scores import ClassScores
from mitate.view.curve import Chart


@dataclass(frozen=True)
class MapPicture:
    """One map of one case, already in colours.

    Attributes:
        method: The method's name, as people should read it.
        layer: Where the network was tapped.
        class_name: The class that the map explains.
        probability: Of that class; NaN where there is none.
        heat: The map in colours, RGB, of the shape of the photo; small will do.
        flag: In words, why this map should not be read (zero, constant …).
    """

    method: str
    layer: str
    class_name: str
    probability: float
    heat: Image.Image
    flag: str = ""


@dataclass(frozen=True)
class Case:
    """One photo with what was predicted, what is true where that is known, and the maps."""

    name: str
    picture: Image.Image
    true: str | None
    predicted: str
    probability: float
    maps: tuple[MapPicture, ...] = ()

    @property
    def verdict(self) -> str:
        """``right``, ``wrong``, or ``unknown`` without a true class."""
        if self.true is None:
            return "unknown"
        return "right" if self.true == self.predicted else "wrong"

    @property
    def methods(self) -> tuple[tuple[str, str, tuple[MapPicture, ...]], ...]:
        """The maps as (method, layer, maps), in the order given."""
        runs = groupby(self.maps, key=lambda shown: (shown.method, shown.layer))
        return tuple((method, layer, tuple(run)) for (method, layer), run in runs)


@dataclass(frozen=True)
class EnergyRow:
    """Share of a method's maps that lies on the masks, in [0, 1], with its 95 % interval.

    ``left_out`` counts the photos whose map has no energy: they are in no share.
    """

    method: str
    layer: str
    share: float
    low: float
    high: float
    control: bool
    verdict: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class MetricHead:
    """One metric of an audit: its name, as people read it, which way is better, what it is."""

    name: str
    title: str
    better: str
    summary: str


@dataclass(frozen=True)
class Cell:
    """A mean with its 95 % interval; whether every control is beaten, and what is said of it."""

    mean: float
    low: float
    high: float
    beaten: bool | None = None
    words: str = ""
    beside: str = ""


@dataclass(frozen=True)
class LeaderRow:
    """One contender or control of an audit.

    Attributes:
        method: the method's name.
        layer: where the network was tapped.
        kind: which kind of control, in words.
        control: whether it is one.
        images: on how many it was measured, and how many of them the metric has a value for.
        cost: of a map in forwards.
        recommended: whether it is the first of the maps.
        trusted: whether that is the map to take: better than every control.
        badges: what else is to be known.
        picked: in the metric that recommends.
        cells: in every metric.
    """

    method: str
    layer: str
    kind: str
    control: bool
    images: str
    cost: float
    recommended: bool
    trusted: bool
    badges: tuple[str, ...]
    picked: Cell
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class GroupCard:
    """Images that are decided alike, or confused alike.

    Attributes:
        words: what was found.
        why: what speaks for a wrong reason, or what is missing for it.
        found: whether it is one.
        images: how many.
        name: of the image that stands for them.
        picture: that image.
        heat: the mean of their maps in colours, of the picture's shape.
    """

    words: str
    why: str
    found: bool
    images: int
    name: str
    picture: Image.Image
    heat: Image.Image


@dataclass(frozen=True)
class SegmentedRow:
    """What is segmented for one class: of how many images, and in how many anything is.

    ``energy`` is the recommended map's on it, ``difference`` the fall of the class without it
    beyond that without as much elsewhere.
    """

    name: str
    images: int
    drawn: int
    area: float
    energy: Cell
    difference: Cell


@dataclass(frozen=True)
class SegmentationPart:
    """What a classifier itself segments, and how much of each map lies there.

    Attributes:
        area: share of the picture that is segmented, where anything is; NaN where nothing is.
        true_area: share that the true region covers, where there is one; NaN without masks.
        empty: in how many images nothing is segmented.
        broken: in how many what is segmented is not finite.
        metric: of the maps on it.
        beside: further metrics of the maps, a column each.
        rows: the maps, whose cells are of ``beside``; controls last.
        cases: the images in which map and segmentation differ most.
        classes: class by class.
    """

    area: float
    true_area: float
    empty: int
    broken: int
    metric: MetricHead
    beside: tuple[MetricHead, ...]
    rows: tuple[LeaderRow, ...]
    cases: tuple[Case, ...]
    classes: tuple[SegmentedRow, ...] = ()


@dataclass(frozen=True)
class AuditPart:
    """What a report says of an audit.

    Attributes:
        grade: ``good``, ``open`` or ``bad``.
        sentences: what the verdict rests on.
        advice: what to do next.
        gate: (requirement, whether it was met, what was found).
        pick: the metric that recommends.
        metrics: the columns.
        rows: the leaderboard, best first, controls last.
        curves: the class while pixels are taken away or shown.
        groups: images that are decided alike, the most suspicious first.
        places: fixed places that decide though no group of maps was found there.
        confused: the pairs of classes that are confused most.
        segmentation: what the classifier itself segments; None where that was not asked.
    """

    grade: str
    sentences: tuple[str, ...]
    advice: str
    gate: tuple[tuple[str, bool, str], ...]
    pick: MetricHead
    metrics: tuple[MetricHead, ...]
    rows: tuple[LeaderRow, ...]
    curves: tuple[Chart, ...]
    groups: tuple[GroupCard, ...] = ()
    places: tuple[GroupCard, ...] = ()
    confused: tuple[GroupCard, ...] = ()
    segmentation: SegmentationPart | None = None


@dataclass(frozen=True)
class Report:
    """All that a report shows; what is empty is left out.

    Attributes:
        title: What was done, in a few words.
        subtitle: One sentence more.
        facts: What was trained on what: (word, value).
        accuracy: In [0, 1]; None without true classes.
        macro_f1: In [0, 1]; None without true classes.
        classes: Scores class by class.
        confusion: Counts; a row a true class, a column a predicted one, both as in `class_names`.
        class_names: The order of the classes everywhere.
        cases: The gallery.
        energy: Where the maps lie, methods and controls.
        marked: On how many photos, and the mean share of them that the masks cover.
        curve: (epoch, training loss, validation loss, accuracy) an epoch.
        notices: What should be known about the data, a sentence each.
        region: What the masks of `energy` mark.
        opacity: Of the maps over the photos, in [0, 1], until the reader moves the slider.
        audit: What an audit came to.
        gallery: Heading and lead of the gallery.
    """

    title: str
    subtitle: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    accuracy: float | None = None
    macro_f1: float | None = None
    classes: tuple[ClassScores, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    class_names: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    energy: tuple[EnergyRow, ...] = ()
    marked: tuple[int, float] | None = None
    curve: tuple[tuple[int, float, float, float], ...] = ()
    notices: tuple[str, ...] = ()
    region: str = "the marked region"
    opacity: float = OPACITY
    audit: AuditPart | None = None
    gallery: tuple[str, str] = (
        "Where it looked",
        "Each photo with the maps of its classes, the brightest where the class found most "
        "support, relative to the map's own maximum. Choose a picture to enlarge it.",
    )
