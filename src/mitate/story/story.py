"""The whole story on simulated paddy leaves: a cheat is learnt and found; masks are tried on it."""

from pathlib import Path

from mitate.demo import ARGUMENTS, MODEL, RATE
from mitate.models.classifier import Classifier
from mitate.story.judging import BATCH, Story, judged
from mitate.story.photos import MASKED, PIXELS, STAMP, TRAIN, VALID, Photos, drawn, some_masks
from mitate.story.telling import Tell, shown, tell_of, telling
from mitate.training import Supervision, fit
from mitate.training.masks import TrueMasks
from mitate.training.selftraining import passes
from mitate.view.telling import write_telling

EPOCHS = 20
CURE = Supervision(plant=True, draw=True)
METHODS = ("gradcam", "scorecam")


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
    tell(
        f"Training another with the lesion masks of {100 * MASKED:.0f} % of these photos, which it "
        f"plants in others' surroundings; its own segmentation draws the other masks; "
        f"{' + '.join(map(str, passes(EPOCHS)))} epochs"
    )
    after = judged(trained(photos, folder / "after", seed, masks), photos, methods, seed)
    tell_of(after, tell)
    story = Story(seed, before, after, folder / "story.html")
    tell(f"Recognised without a date, after less before: {shown(story.gain, '+')}")
    write_telling(telling(story, photos), story.page)
    return story


def trained(
    photos: Photos,
    folder: Path,
    seed: int,
    masks: TrueMasks | None = None,
    *,
    epochs: int = EPOCHS,
) -> Classifier:
    """The demo's small network, from scratch on the photos with the date."""
    return fit(
        photos.stamped,
        folder,
        model=MODEL,
        weights="none",
        epochs=epochs,
        size=PIXELS,
        batch_size=BATCH,
        lr=RATE,
        augment="none",
        seed=seed,
        arguments=ARGUMENTS,
        masks=masks,
        supervision=CURE if masks else None,
    ).classifier
