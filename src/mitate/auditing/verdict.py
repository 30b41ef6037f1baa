"""Is the map wrong, or the classifier? All words of the verdict are here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mitate.auditing.comparison import FEWEST
from mitate.auditing.intervals import Interval, mean_interval, recall_interval
from mitate.auditing.leaderboard import Recommendation, Score
from mitate.auditing.segmentation import Segmentation
from mitate.data.wording import counted

Grade = Literal["good", "open", "bad"]
# Falls of the class's probability: what is smaller than the first does not matter, and where the
# interval stays under the second the region does not decide.
MATTERS, DECIDES = 0.05, 0.1
SKILL = 0.2  # of the mean recall above guessing: what is less for sure, and may be none, is none
# From this IoU on a region is found: the least of the thresholds of Choe et al. 2020
# (arXiv:2007.04178, MaxBoxAccV2).
FINDS = 0.3

HEADLINES: dict[str, tuple[Grade, str]] = {
    "right": ("good", "The classifier uses the region, and the map shows it."),
    "faithful": (
        "good",
        "The map tells where the classifier looks; whether that is the right place, masks would "
        "tell.",
    ),
    "faithful, unlabelled": (
        "open",
        "The map tells where the classifier looks; whether the classifier is right, and by the "
        "right place, labels and masks would tell.",
    ),
    "by its segmentation": (
        "good",
        "The classifier decides by what it segments, and the map shows it; whether that is the "
        "right place, masks would tell.",
    ),
    "place only": (
        "open",
        "The map lies on the region; whether the classifier uses it was not measured.",
    ),
    "unclear": (
        "open",
        "These photos do not tell whether the classifier uses the region: audit more of them.",
    ),
    "unproven": (
        "open",
        "These photos do not tell whether the classifier is better than guessing: audit more of "
        "them.",
    ),
    "few": ("open", f"Too few photos to judge: at least {FEWEST} are needed."),
    "nothing": ("open", "No map has a value in the metric that picks, so nothing can be said."),
    "map wrong": (
        "bad",
        "The classifier uses the region and the map does not show it: the map is wrong.",
    ),
    "classifier wrong": (
        "bad",
        "The classifier decides by something else than the region: no true map can lie on it.",
    ),
    "beside its segmentation": (
        "bad",
        "The classifier does not decide by what it segments: its reason or its segmentation is "
        "wrong.",
    ),
    "guessing": (
        "bad",
        "The classifier is not better than guessing: there is nothing right that a map could show.",
    ),
    "unfaithful": (
        "bad",
        "No map is better than one that was made without looking: rely on none of them here.",
    ),
    "ignores the network": (
        "bad",
        "The recommended map hardly changes when the network's weights are random: it shows the "
        "photo and not the network.",
    ),
    "wrong reasons": (
        "bad",
        "Some photos are decided by what lies beside the object.",
    ),
}

ADVICE: dict[str, str] = {
    "right": "Use this map (--remember keeps it), and audit again when the classifier or "
    "the photos change.",
    "faithful": "Use this map to see where the classifier looks. Draw masks on some twenty photos: "
    "the audit then tells whether that is the right place.",
    "faithful, unlabelled": "Use this map to see where the classifier looks. Give the true "
    "classes, and masks of some twenty photos: the audit then tells whether it is right, and why.",
    "by its segmentation": "Use this map (--remember keeps it). Draw masks on some twenty photos: "
    "the audit then tells whether what is segmented is the right place.",
    "place only": "Give more photos with masks, until what hiding the region does can be told.",
    "unclear": "Give more photos with masks (a higher limit, or more masks): the intervals narrow.",
    "unproven": "Give more photos of each class: the interval narrows.",
    "few": f"Give more photos; for what masks tell, {FEWEST} or more whose mask shows something.",
    "nothing": "Pick by another metric (--pick), or take other photos: these maps are empty, or "
    "none of the photos has a mask.",
    "map wrong": "Do not show these maps as a reason. Try earlier layers and other methods "
    "(--layer earlier, -m loupe for small things), or larger photos.",
    "classifier wrong": "Do not count on its accuracy elsewhere. Look at what the photos below are "
    "decided by, take photos in which that varies, or train with masks; then compare the two.",
    "beside its segmentation": "Look at what is segmented in the photos below. Where that is the "
    "right place and all of it, the class is decided by something else: train with --plant or "
    "--guide masks and compare the two. Where it is not, train on more masks.",
    "guessing": "Train it further, on more photos, or look for wrong labels; then audit again.",
    "unfaithful": "Show no map of it. Try other methods and layers, or more photos: the intervals "
    "narrow.",
    "ignores the network": "Take another method: those without this badge depend on the network.",
    "wrong reasons": "Look at these photos (groups.csv lists them). Cover or vary that place in "
    "the photos for training, or take others without it; train again and compare the two.",
}

# By whether the map lies on the segmentation, whether this finds the true region, and whether the
# map lies on that; None where there are too few masks to tell.
AGREEMENTS: dict[tuple[bool, bool | None, bool | None], str] = {
    (True, None, None): "Map and segmentation agree; whether both are right, masks would tell.",
    (False, None, None): "Of the map no more lies on what is segmented than of a control.",
    (True, True, True): "Map and segmentation agree, and both lie on the region.",
    (True, True, False): "Map and segmentation agree, but on the region itself no more of the map "
    "lies than of a control.",
    (True, False, True): "Map and segmentation agree, and the map lies on the region, which the "
    "segmentation hardly finds.",
    (True, False, False): "Map and segmentation agree, and neither lies on the region.",
    (False, True, True): "The map lies on the region and the segmentation finds it, but on what is "
    "segmented no more of the map lies than of a control.",
    (False, True, False): "The classifier segments the region, and no more of the map lies there "
    "than of a control.",
    (False, False, True): "The map lies on the region, and the segmentation hardly finds it.",
    (False, False, False): "The segmentation hardly finds the region, and of the map no more lies "
    "on either than of a control.",
}
NOT_DECIDING = "What is segmented does not decide: the class hardly falls without it."


@dataclass(frozen=True)
class Facts:
    """What the verdict rests on; None is not known.

    Attributes:
        images: audited.
        accuracy: share of right predictions, of those with a true class.
        over_guessing: the recall averaged over classes, above that of guessing among them.
        recommendation: the map.
        energy: that map's share on the masks, beside the controls'.
        reliance: how much more the class falls without the region than without one like it
            elsewhere.
        fall: how far the class falls without the region.
        ignores: whether the map is known to ignore the network.
        wrong_reasons: groups of photos that are decided by something beside, in words.
        segmentation: what the classifier segments by itself.
        agreement: the map's share on that, beside the controls'.
    """

    images: int
    accuracy: Interval | None = None
    over_guessing: Interval | None = None
    recommendation: Recommendation | None = None
    energy: Score | None = None
    reliance: Interval | None = None
    fall: Interval | None = None
    ignores: bool = False
    wrong_reasons: tuple[str, ...] = ()
    segmentation: Segmentation | None = None
    agreement: Score | None = None


@dataclass(frozen=True)
class Verdict:
    """What is to be said.

    Attributes:
        outcome: a key of ``HEADLINES``.
        grade: ``good``, ``bad``, or ``open`` where the audit does not tell.
        headline: one sentence.
        sentences: what it rests on.
        advice: what to do next.
    """

    outcome: str
    grade: Grade
    headline: str
    sentences: tuple[str, ...]
    advice: str


def judge(facts: Facts) -> Verdict:
    """Say what the facts bear, and no more."""
    outcome = _outcome(facts)
    grade, headline = HEADLINES[outcome]
    every = (_accuracy, _use, _place, _map, _drawn, _use_of_drawn, _on_drawn, _agreement)
    said = [words for told in every if (words := told(facts))]
    return Verdict(outcome, grade, headline, (*facts.wrong_reasons, *said), ADVICE[outcome])


def uses_region(reliance: Interval | None) -> bool | None:
    """Whether the classifier uses the region; None where that is not told."""
    if reliance is None or reliance.images < FEWEST:
        return None
    if reliance.low > 0 and reliance.mean >= MATTERS:
        return True
    return False if reliance.high < DECIDES else None


def _outcome(facts: Facts) -> str:
    if facts.images < FEWEST:
        return "few"
    if facts.over_guessing is not None and not facts.over_guessing.low > 0:
        return "guessing" if facts.over_guessing.high < SKILL else "unproven"
    if facts.recommendation is None:
        return "nothing"
    outcome = _of_place(facts) or _of_segmentation(facts) or _of_faith(facts)
    if HEADLINES[outcome][0] == "bad":
        return outcome
    if facts.ignores:
        return "ignores the network"
    return "wrong reasons" if facts.wrong_reasons else outcome


def _of_place(facts: Facts) -> str | None:
    """What masks tell; None where there are none to tell it."""
    if facts.energy is None or facts.energy.beaten is None:
        return None
    uses, shows = uses_region(facts.reliance), facts.energy.beaten
    if uses is None:
        told = facts.reliance is not None and facts.reliance.images >= FEWEST
        return "unclear" if told or not shows else "place only"
    if not uses:
        return "classifier wrong"
    return "right" if shows else "map wrong"


def _of_segmentation(facts: Facts) -> str | None:
    """What a segmentation of the classifier's own tells where there are no masks to."""
    if facts.segmentation is None or facts.recommendation is None:
        return None
    uses = uses_region(facts.segmentation.usage.difference)
    if uses is False:
        return "beside its segmentation"
    shows = facts.recommendation.trusted and facts.agreement and facts.agreement.beaten
    return "by its segmentation" if uses and shows else None


def _of_faith(facts: Facts) -> str:
    picked = facts.recommendation
    assert picked is not None
    if not picked.trusted:
        energy = facts.energy if picked.metric == "energy" else None
        return "few" if energy and energy.value.images < FEWEST else "unfaithful"
    return "faithful, unlabelled" if facts.over_guessing is None else "faithful"


def _accuracy(facts: Facts) -> str:
    if facts.accuracy is None:
        return "No true classes are known, so nothing is said of whether the classifier is right."
    right = (
        f"Of {facts.accuracy.images} photos with a true class {_percent(facts.accuracy.mean)} are "
        "predicted right"
    )
    if facts.over_guessing is None:
        return f"{right}; they are of a single class."
    over = facts.over_guessing
    return (
        f"{right}; the recall averaged over classes is {100 * over.mean:.1f} points above guessing "
        f"({100 * over.low:.1f} to {100 * over.high:.1f})."
    )


def _use(facts: Facts) -> str:
    return _without("the region", facts.fall, facts.reliance)


def _without(what: str, fall: Interval | None, told: Interval | None) -> str:
    if told is None or not told.images:
        return ""
    fell = ""
    if fall is not None:
        of = "" if fall.images == told.images else f" ({counted(fall.images, 'photo')})"
        fell = f"the class falls by {fall.mean:z.3f}{of}, "
    return (
        f"Without {what} {fell}{told.mean:+z.3f} beyond what hiding as much elsewhere does "
        f"({told.low:+z.3f} to {told.high:+z.3f}, {counted(told.images, 'photo')})."
    )


def _place(facts: Facts) -> str:
    if facts.energy is None or not facts.energy.value.images:
        return ""
    share = f"{_percent(facts.energy.value.mean)} of the map's energy lies on the region"
    return f"{share}: {facts.energy.words}." if facts.energy.words else f"{share}."


def _drawn(facts: Facts) -> str:
    drawn = facts.segmentation
    if drawn is None:
        return ""
    found = drawn.area
    size = f", {_percent(found.mean)} of the picture" if found.images else ""
    told = [
        f"The classifier segments a region in {found.images} of {len(drawn.areas)} photos{size}",
        *([f"nothing in {drawn.empty}"] if drawn.empty else []),
        *([f"nothing finite in {drawn.broken}"] if drawn.broken else []),
    ]
    return f"{', '.join(told)}{_beside_masks(drawn)}."


def _beside_masks(drawn: Segmentation) -> str:
    dice, iou = drawn.overlaps.dice(), drawn.overlaps.iou()
    if dice is None or iou is None:
        return ""
    masks = counted(drawn.compared, "mask")
    return f"; beside {masks} its Dice is {dice:.3f} and its IoU {iou:.3f}"


def _use_of_drawn(facts: Facts) -> str:
    drawn = facts.segmentation
    used = None if drawn is None else drawn.usage
    return "" if used is None else _without("what it segments", used.fall, used.difference)


def _on_drawn(facts: Facts) -> str:
    if facts.segmentation is None or facts.agreement is None or not facts.agreement.value.images:
        return ""
    share, area = facts.agreement.value.mean, facts.segmentation.area.mean
    words = f": {facts.agreement.words}." if facts.agreement.words else "."
    return (
        f"{_percent(share)} of the map's energy lies on what it segments, which is "
        f"{_percent(area)} of the picture{words}"
    )


def _agreement(facts: Facts) -> str:
    if facts.segmentation is None:
        return ""
    iou, said = facts.segmentation.overlaps.iou(), []
    agrees, shows = (score and score.beaten for score in (facts.agreement, facts.energy))
    if agrees is not None:
        told = (None, None) if iou is None or shows is None else (iou >= FINDS, shows)
        said.append(AGREEMENTS[agrees, *told])
    if uses_region(facts.segmentation.usage.difference) is False:
        said.append(NOT_DECIDING)
    return " ".join(said)


def _map(facts: Facts) -> str:
    return f"{facts.recommendation.reason}." if facts.recommendation else ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def over_guessing(
    labels: Sequence[int], predicted: Sequence[int]
) -> tuple[Interval, Interval | None]:
    """The accuracy; and the recall averaged over classes, above that of guessing among them.

    Rare classes count like common ones, so that always naming the commonest is no better than
    guessing. The second is None where the photos are of a single class.

    Args:
        labels: true classes, all known.
        predicted: as many.
    """
    true, named = np.asarray(labels), np.asarray(predicted)
    right = (true == named).astype(float)
    counts = np.bincount(true)
    present = int((counts > 0).sum())
    if present < 2:
        return mean_interval(right), None
    named_right = np.bincount(true[true == named], minlength=len(counts))
    recall = recall_interval(named_right[counts > 0], counts[counts > 0])
    mean, low, high = (bound - 1 / present for bound in (recall.mean, recall.low, recall.high))
    return mean_interval(right), Interval(mean, low, high, recall.images)
