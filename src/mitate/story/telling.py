"""The story in words, and as a page with both networks side by side."""

from collections.abc import Callable, Iterator

from mitate.auditing.intervals import Interval
from mitate.data.decoding import read_image
from mitate.explain.explainer import Explainer
from mitate.jobs.audited import group_card, spot_card
from mitate.jobs.explaining import Style
from mitate.jobs.gallery import map_picture
from mitate.jobs.photos import evenly
from mitate.story.judging import LAYER, Judged, Story
from mitate.story.photos import MASKED, STAMP, Photos
from mitate.view.contents import GroupCard
from mitate.view.telling import Line, Sight, Telling

SIGHTS = 6
Tell = Callable[[str], None]


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
            f"Two small networks, both trained on simulated photos of paddy leaves: "
            f"{100 * STAMP.share:.0f} % of {STAMP.disease} bear a date in the {STAMP.corner} "
            f"corner. The second was shown the lesion masks of {100 * MASKED:.0f} % of the photos, "
            "and drew the others itself."
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
