"""The whole story on simulated paddy leaves: a cheat is learnt and found; masks are tried on it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image

from mitate.auditing.comparison import mask_batch
from mitate.auditing.intervals import Interval, mean_interval, paired_interval
from mitate.auditing.localisation import energy_share
from mitate.auditing.reasons import Reasons, Spot, find_reasons
from mitate.data.dataset import Record, read_dataset
from mitate.data.decoding import read_image
from mitate.data.masks import MaskIndex
from mitate.data.paddy import Stamp, write_paddy
from mitate.demo import ARGUMENTS, MODEL, RATE, SYMPTOM
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.progress import progress
from mitate.training import Supervision, fit
from mitate.training.masks import TrueMasks, true_masks
from mitate.training.preparing import Prepared, prepared
from mitate.view.audited import group_card, spot_card
from mitate.view.contents import GroupCard
from mitate.view.explaining import Style
from mitate.view.gallery import map_picture
from mitate.view.photos import evenly
from mitate.view.telling import Line, Sight, Telling, write_telling

# Photos are drawn as the network sees them: resized, the date blurs and is not learnt.
TRAIN, VALID, PIXELS, EPOCHS = 60, 30, 96, 20
STAMP = Stamp("blast", share=0.8, corner="lower right", splits=("train", "valid"))
CORNER = f"the {STAMP.corner} corner"
MASKED = 0.3  # the share of the training photos whose masks teach
CURE = Supervision(plant=True)
METHODS, FINDER, LAYER = ("gradcam", "scorecam"), "layercam", "stages.2"
BATCH, SIGHTS = 32, 6
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Look:
    """How much of a method's maps of the stamped class lies on the date and on the lesions.

    On the validation photos that bear the date, as shares of each map's energy.
    """

    method: str
    date: Interval
    lesions: Interval


@dataclass(frozen=True, eq=False)
class Judged:
    """One network: what it knows without the date, where it looks, and what the audit finds.

    Attributes:
        classifier: as it was saved.
        right: whether each validation photo is recognised, with no date on any.
        stamped: which of these are of the class that bears the date.
        lured: whether the date makes each photo of another class, once it is printed on it, the
            stamped class.
        looks: one a method.
        reasons: what the search for wrong reasons found on the photos with the date.
    """

    classifier: Classifier
    right: Bool[np.ndarray, " n"]
    stamped: Bool[np.ndarray, " n"]
    lured: Bool[np.ndarray, " others"]
    looks: tuple[Look, ...]
    reasons: Reasons

    @property
    def known(self) -> Interval:
        """Share of the photos without a date that is recognised."""
        return mean_interval(self.right.astype(float))

    @property
    def known_of_the_stamped(self) -> Interval:
        """The same, of the class that bears the date."""
        return mean_interval(self.right[self.stamped].astype(float))

    @property
    def turned(self) -> Interval:
        """How many photos of other classes the date turns into the stamped class."""
        return mean_interval(self.lured.astype(float))

    @property
    def corner(self) -> Spot | None:
        """What hiding the date's corner does to photos that are decided to be the stamped class."""
        spots = (spot for spot in self.reasons.spots if spot.class_name == STAMP.disease)
        return next((spot for spot in spots if spot.place.name == CORNER), None)

    @property
    def named(self) -> bool:
        """Whether the audit names the class and the corner of the date."""
        return (STAMP.disease, CORNER) in self.reasons.named

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "accuracy": asdict(self.known),
            "accuracy_of_the_stamped_class": asdict(self.known_of_the_stamped),
            "turned_by_the_date": asdict(self.turned),
            "flipped_without_the_corner": self.corner and asdict(self.corner.flips),
            "looks": [asdict(look) for look in self.looks],
            "named": self.named,
            "reasons": list(self.reasons.words),
        }


@dataclass(frozen=True, eq=False)
class Story:
    """The network that cheats, the one that masks taught, how they differ, and the page."""

    seed: int
    before: Judged
    after: Judged
    page: Path

    @property
    def gain(self) -> Interval:
        """How many more of the photos without a date are recognised afterwards."""
        return paired_interval(self.after.right.astype(float), self.before.right.astype(float))

    @property
    def gain_of_the_stamped(self) -> Interval:
        """The same, of the class that bears the date."""
        stamped = self.before.stamped
        after, before = (one.right[stamped].astype(float) for one in (self.after, self.before))
        return paired_interval(after, before)

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "seed": self.seed,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "gain": asdict(self.gain),
            "gain_of_the_stamped_class": asdict(self.gain_of_the_stamped),
            "page": str(self.page),
        }


@dataclass(frozen=True)
class Photos:
    """The photos of the story: those with the date, and validation photos without it."""

    stamped: Prepared
    plain: tuple[Record, ...]

    @property
    def judged(self) -> tuple[Record, ...]:
        """The validation photos, with the date where it is planted."""
        return self.stamped.split("valid").records

    @property
    def dated(self) -> list[Record]:
        """Those that bear it."""
        mine = [record for record in self.judged if record.label == STAMP.disease]
        return [r for number, r in enumerate(mine) if STAMP.marks("valid", STAMP.disease, number)]


def tell_story(folder: Path, *, seed: int = 0, scorecam: bool = True, tell: Tell = print) -> Story:
    """Draw, train, look, audit; train with masks, look and audit again; write the page.

    Args:
        folder: for the photos, both classifiers and ``story.html``; what is drawn is used again.
        seed: of the photos, the weights, the training and the audit.
        scorecam: look by Score-CAM too.
        tell: told what is done and what came of it, as it comes.
    """
    tell(
        f"Drawing {10 * (TRAIN + VALID)} photos of ten classes; {100 * STAMP.share:.0f} % of "
        f"{STAMP.disease} bear a date"
    )
    photos = drawn(folder, seed)
    tell(f"Training a small ConvNeXt on {10 * TRAIN} of them, {EPOCHS} epochs from scratch")
    methods = METHODS if scorecam else METHODS[:1]
    before = judged(trained(photos, folder / "before", seed), photos, methods, seed)
    tell_of(before, tell)
    masks = some_masks(photos.stamped)
    tell(f"Training another alike, with the lesion masks of {len(masks.paths)} of these photos")
    after = judged(trained(photos, folder / "after", seed, masks), photos, methods, seed)
    tell_of(after, tell)
    story = Story(seed, before, after, folder / "story.html")
    tell(f"Recognised without a date, after less before: {shown(story.gain, '+')}")
    write_telling(telling(story, photos), story.page)
    return story


def drawn(folder: Path, seed: int) -> Photos:
    """Draw the photos with the date, and the validation photos once more without."""
    with progress("drawing", 10 * (TRAIN + 2 * VALID)) as advance:
        draw = partial(
            write_paddy,
            valid_per_class=VALID,
            size=PIXELS,
            seed=seed,
            progress=lambda done, total: advance(1),
        )
        stamped = draw(folder / "paddy", train_per_class=TRAIN, stamp=STAMP)
        plain = draw(folder / "without-dates", train_per_class=0)
    return Photos(prepared(stamped), read_dataset(plain).split("valid").records)


def some_masks(dataset: Prepared) -> TrueMasks:
    """The masks of a part of each class's training photos, evenly spread."""
    masks = true_masks(dataset, MaskIndex.of(dataset), value=SYMPTOM)
    chosen: list[Path] = []
    for name in dataset.class_names:
        paths = [record.path for record in dataset.split("train").records if record.label == name]
        chosen += evenly(paths, round(MASKED * len(paths)))
    return replace(masks, paths=frozenset(chosen))


def trained(photos: Photos, folder: Path, seed: int, masks: TrueMasks | None = None) -> Classifier:
    """The demo's small network, from scratch on the photos with the date."""
    return fit(
        photos.stamped,
        folder,
        model=MODEL,
        weights="none",
        epochs=EPOCHS,
        size=PIXELS,
        batch_size=BATCH,
        lr=RATE,
        augment="none",
        seed=seed,
        arguments=ARGUMENTS,
        masks=masks,
        supervision=CURE if masks else None,
    ).classifier


def judged(classifier: Classifier, photos: Photos, methods: Sequence[str], seed: int) -> Judged:
    """Measure what the network knows, where it looks, and by what it decides."""
    labels = np.array([record.label for record in photos.plain])
    pictures = [read_image(record.path) for record in photos.plain]
    found = np.array(list(said(classifier, pictures)))
    return Judged(
        classifier,
        found == labels,
        labels == STAMP.disease,
        lured(classifier, pictures, labels, found, seed),
        tuple(looked(classifier, photos, methods)),
        find_reasons(
            classifier,
            photos.judged,
            Explainer(classifier, FINDER, LAYER),
            masks=MaskIndex.of(photos.stamped),
            mask_value=SYMPTOM,
            seed=seed,
        ),
    )


def said(classifier: Classifier, pictures: Sequence[Image.Image]) -> Iterator[str]:
    """The class that the network gives each photo."""
    for start in range(0, len(pictures), BATCH):
        inputs = classifier.inputs(pictures[start : start + BATCH])
        decided = classifier.logits(inputs).argmax(1)
        yield from (classifier.class_names[index] for index in decided.tolist())


def lured(
    classifier: Classifier,
    pictures: Sequence[Image.Image],
    labels: np.ndarray,
    found: np.ndarray,
    seed: int,
) -> Bool[np.ndarray, " others"]:
    """Whether a date makes each photo of the other classes what it was not: the stamped class."""
    rng = np.random.default_rng(seed)
    others = [number for number, label in enumerate(labels) if label != STAMP.disease]
    dated = [Image.fromarray(STAMP.press(np.asarray(pictures[n]), rng)) for n in others]
    after = np.array(list(said(classifier, dated)))
    return np.asarray((after == STAMP.disease) & (found[others] != STAMP.disease))


def looked(classifier: Classifier, photos: Photos, methods: Sequence[str]) -> Iterator[Look]:
    """Where each method's maps of the stamped class lie, on photos that bear the date."""
    paths, index = [record.path for record in photos.dated], MaskIndex.of(photos.stamped)
    drawn = [index.read(path, (PIXELS, PIXELS), value=SYMPTOM) for path in paths]
    lesions = mask_batch([mask for mask in drawn if mask is not None])
    date = torch.from_numpy(STAMP.region(PIXELS)).float().expand_as(lesions)
    for method in methods:
        explainer = Explainer(classifier, method, LAYER, show_progress=False)
        labels = [STAMP.disease] * len(paths)
        maps = explainer(paths, targets="label", labels=labels).maps[:, 0]
        yield Look(method, *(mean_interval(energy_share(maps, m).numpy()) for m in (date, lesions)))


def tell_of(found: Judged, tell: Tell) -> None:
    """Say what came of one network."""
    tell(
        f"  it recognises {shown(found.known)} of the {found.known.images} photos without a date, "
        f"and {shown(found.known_of_the_stamped)} of the {STAMP.disease} among them"
    )
    tell(f"  a date turns {shown(found.turned)} of the other classes' photos into {STAMP.disease}")
    if found.corner is not None:
        tell(
            f"  hiding its corner flips {shown(found.corner.flips)} of what it decides to be "
            f"{STAMP.disease}"
        )
    for look in found.looks:
        tell(
            f"  {look.method} of {STAMP.disease}: {shown(look.date)} of its energy lies on the "
            f"date, {shown(look.lesions)} on the lesions"
        )
    tell(f"  the audit: {'; '.join(found.reasons.words)}")


def shown(share: Interval, sign: str = "") -> str:
    """A share in percent with its interval."""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (share.mean, share.low, share.high))
    return f"{mean} % ({low} to {high})"


def telling(story: Story, photos: Photos) -> Telling:
    """The page: figures and pictures of both networks side by side."""
    before, after = story.before, story.after
    return Telling(
        title="A planted cheat, found, and what masks do about it",
        subtitle=(
            f"Two small networks, trained alike on simulated photos of paddy leaves: "
            f"{100 * STAMP.share:.0f} % of {STAMP.disease} bear a date in the {STAMP.corner} "
            f"corner. The second was shown the lesion masks of {100 * MASKED:.0f} % of the photos."
        ),
        told=(
            f"Before: {'; '.join(before.reasons.words)}.",
            f"After: {'; '.join(after.reasons.words)}.",
            f"Of photos without a date {shown(story.gain, '+')} more are recognised.",
        ),
        lines=tuple(lines_of(story)),
        before=cards_of(before),
        after=cards_of(after),
        sights=tuple(sights_of(story, photos)),
    )


def lines_of(story: Story) -> Iterator[Line]:
    """The figures of the page."""
    before, after = story.before, story.after
    yield Line(
        "recognised, of the photos without a date",
        shown(before.known),
        shown(after.known),
        shown(story.gain, "+"),
    )
    yield Line(
        f"recognised, of the {STAMP.disease} among them",
        shown(before.known_of_the_stamped),
        shown(after.known_of_the_stamped),
        shown(story.gain_of_the_stamped, "+"),
    )
    yield Line(
        f"turned into {STAMP.disease} by a date, of the photos of other classes",
        *(shown(one.turned) for one in (before, after)),
    )
    yield Line(
        f"decided otherwise with the corner hidden, of what is decided to be {STAMP.disease}",
        *("–" if one.corner is None else shown(one.corner.flips) for one in (before, after)),
    )
    for one, other in zip(before.looks, after.looks, strict=True):
        for where in ("date", "lesions"):
            yield Line(
                f"{one.method} of {STAMP.disease}: energy on the {where}",
                *(shown(getattr(look, where)) for look in (one, other)),
            )


def cards_of(found: Judged) -> tuple[GroupCard, ...]:
    """The groups that are decided to be the stamped class, and places that no map shows."""
    groups = [group for group in found.reasons.groups if group.class_name == STAMP.disease]
    spots = [spot for spot in found.reasons.unseen if spot.class_name == STAMP.disease]
    cards = [group_card(group, Style()) for group in groups]
    cards += [spot_card(spot, Style()) for spot in spots]
    return tuple(card for card in cards if card is not None)


def sights_of(story: Story, photos: Photos) -> Iterator[Sight]:
    """Some photos that bear the date, with the maps of both networks."""
    chosen = evenly(photos.dated, SIGHTS)
    paths, labels = [record.path for record in chosen], [record.label for record in chosen]
    of = {
        one: [
            Explainer(one.classifier, look.method, LAYER, show_progress=False)(
                paths, targets="label", labels=labels
            )
            for look in one.looks
        ]
        for one in (story.before, story.after)
    }
    for index, path in enumerate(paths):
        picture = read_image(path)
        before, after = (
            tuple(map_picture(made[index], 0, picture, Style()) for made in of[one])
            for one in (story.before, story.after)
        )
        yield Sight(path.name, picture, before, after)
