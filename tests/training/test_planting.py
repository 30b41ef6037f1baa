from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from mitate.errors import UsageError
from mitate.models.classifier import Classifier
from mitate.training import Supervision, fit
from mitate.training.photos import Photos
from mitate.training.planting import SHARE, Surroundings, planted, planting

NAMES = ("blast", "hispa", "normal")


class Drawn(Photos):
    """Photos that are given: of one grey each, with masks of which some are not known."""

    def __init__(self, greys, levels):
        self.greys, self.drawn, self.most_kept = greys, levels, 2

    def __len__(self):
        return len(self.greys)

    def __getitem__(self, index):
        return torch.full((3, 6, 8), self.greys[index], dtype=torch.uint8), 0

    def levels(self, index):
        return self.drawn[index]


@pytest.fixture
def photos():
    """One photo without a mask, two with a marked left half, one of which nothing is marked."""
    levels = torch.zeros(4, 6, 8, dtype=torch.int16)
    levels[0] = -1
    levels[1:3, :, :4] = 255
    return Drawn([25, 51, 76, 230], levels)


@pytest.fixture
def batch(photos):
    images = torch.stack([photos[number][0] for number in range(4)]).float() / 255
    return images, photos.drawn.long()


def draws(images, levels, photos, number=80):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        surroundings = Surroundings(photos)
        return torch.stack([planted(images, levels, surroundings) for _ in range(number)])


def test_surroundings_are_of_photos_with_a_known_mask_that_leaves_something(photos):
    assert Surroundings(photos).numbers == [1, 2, 3]
    photos.drawn[2] = 255
    assert Surroundings(photos).numbers == [1, 3]


def test_what_is_marked_is_filled_from_around_it(photos):
    surroundings = Surroundings(photos)
    photos.greys = [0, 0, 0, 0]

    def gradient(index):
        return torch.arange(8, dtype=torch.uint8).mul(20).expand(3, 6, 8), 0

    photos.__class__ = type("Sloping", (Drawn,), {"__getitem__": lambda self, i: gradient(i)})
    found = surroundings.of(1)
    assert torch.equal(found[..., 4:], gradient(1)[0][..., 4:].float() / 255)
    assert (found[..., :4] - 80 / 255).abs().max() < 0.01  # of the marked nothing is left


def test_kept_ones_are_the_same_and_no_more_are_kept_than_memory_allows(photos):
    surroundings = Surroundings(photos)
    first = [surroundings.of(number) for number in (1, 2, 3)]
    assert len(surroundings.kept) == 2
    assert all(
        torch.equal(surroundings.of(n), one) for n, one in zip((1, 2, 3), first, strict=True)
    )


def test_the_marked_part_stays_and_the_rest_is_drawn_from_all(batch, photos):
    images, levels = batch
    found = draws(images, levels, photos)
    assert torch.equal(found[:, 0], images[0].expand(80, -1, -1, -1))
    assert torch.allclose(found[:, 1:3, :, :, :4], images[1:3, :, :, :4], atol=1e-3)
    around = found[:, 1:, 0, 0, 7]
    assert {round(float(value) * 255) for value in around.flatten()} == {51, 76, 230}
    stayed = (around == images[1:, 0, 0, 7]).float().mean()
    assert stayed == pytest.approx(1 - SHARE * 2 / 3, abs=0.1)  # a third draws its own
    assert (around[:, 0] != around[:, 1]).any()  # each photo is drawn by itself


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_so_many_of_the_photos_with_a_mask_show_it_elsewhere(batch, photos, share):
    images, levels = batch
    with torch.random.fork_rng():
        torch.manual_seed(0)
        surroundings = Surroundings(photos)
        found = torch.stack([planted(images, levels, surroundings, share) for _ in range(200)])
    stayed = (found[:, 1, 0, 0, 7] == images[1, 0, 0, 7]).float().mean()
    assert stayed == pytest.approx(1 - share * 2 / 3, abs=0.1)  # a third draws its own


def test_edges_are_mixed_by_the_share_of_the_region(batch, photos):
    images, levels = batch
    levels[1, :, 4] = 51
    found = draws(images, levels, photos)[:, 1, 0, 0, 4] * 255
    assert {round(float(value)) for value in found} == {51, 71, 194}


def test_a_batch_without_a_mask_is_left_alone(batch, photos):
    images, levels = batch
    assert torch.equal(planted(images[:1], levels[:1], Surroundings(photos)), images[:1])


def test_as_fastai_takes_it_only_in_training(batch, photos):
    images, levels = batch
    labels = torch.tensor([0, 1, 1, 2])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [planting(photos)((images, levels, labels), split_idx=0) for _ in range(20)]
        judged = planting(photos)((images, levels, labels), split_idx=1)
    assert any(not torch.equal(one[0], images) for one in made)
    assert all(torch.equal(one[1], levels) and torch.equal(one[2], labels) for one in made)
    assert torch.equal(judged[0], images)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes, told by a grey square that moves, and by a corner that is planted; hosts."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for shade, name in zip((90, 250, None), NAMES, strict=True):
        for index in range(24):
            pixels = rng.integers(0, 40, (64, 64, 3), np.uint8)
            mask = np.zeros((64, 64), np.uint8)
            if shade is not None:
                top, left = rng.integers(16, 40, 2)
                mask[top : top + 14, left : left + 14] = 255
                pixels[mask > 0] = shade
                pixels[:10, :10] = (255, 0, 0) if name == "blast" else (0, 0, 255)
            for kind, values in (("images", pixels), ("masks", mask)):
                path = folder / kind / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    return folder


def test_a_corner_that_tells_the_class_is_unlearnt(folder, tmp_path):
    settings = {
        "model": tiny.MODEL,
        "weights": "none",
        "arguments": tiny.ARGUMENTS,
        "size": 64,
        "epochs": 20,
        "batch_size": 8,
        "lr": 0.01,
        "augment": "none",
        "show_progress": False,
    }
    planting = {"masks": folder / "masks", "supervision": Supervision(weight=0, plant=True)}
    told = []
    for number, more in enumerate(({}, planting)):
        done = fit(folder / "images", tmp_path / str(number), **settings, **more)
        assert done.classifier.decoder is None
        told.append(share_right_with_the_other_corner(done.classifier, folder))
    assert told[1] > told[0] + 0.3


def share_right_with_the_other_corner(classifier: Classifier, folder):
    right = []
    for name, colour in (("blast", (0, 0, 255)), ("hispa", (255, 0, 0))):
        for path in sorted((folder / "images" / name).glob("*.png")):
            pixels = np.array(Image.open(path))
            pixels[:10, :10] = colour
            decided = classifier.logits(classifier.inputs([Image.fromarray(pixels)])).argmax()
            right.append(classifier.class_names[int(decided)] == name)
    return float(np.mean(right))


def test_it_can_be_all_that_masks_teach():
    alone = Supervision(weight=0, plant=True).checked()
    with pytest.raises(UsageError, match="planted regions to teach these alone"):
        replace(alone, plant=False).checked()
