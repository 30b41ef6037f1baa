"""The simulated photos: exact masks, equal scenes, and symptoms that alone tell the class."""

import numpy as np
import pytest

from mitate.data import paddy
from mitate.data.paddy import CLASSES, Photo, draw
from mitate.errors import UsageError

BACKGROUND, PLANT, SYMPTOM = 0, 1, 2
DISEASES = CLASSES[1:]
# the least and the largest share of a photo that the symptoms may take
AREAS = {
    "bacterial_leaf_blight": (0.03, 0.25),
    "bacterial_leaf_streak": (0.03, 0.25),
    "bacterial_panicle_blight": (0.02, 0.15),
    "blast": (0.02, 0.15),
    "brown_spot": (0.04, 0.22),
    "dead_heart": (0.01, 0.15),
    "downy_mildew": (0.05, 0.30),
    "hispa": (0.02, 0.15),
    "tungro": (0.04, 0.35),
}
SCENES = 8


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def photos() -> dict[str, list[Photo]]:
    """The same scenes drawn with every disease."""
    return {name: [draw(name, seeded(i)) for i in range(SCENES)] for name in CLASSES}


def grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """A boolean mask widened by so many pixels (a slow, plain dilation)."""
    height, width = mask.shape
    padded = np.pad(mask, radius)
    shifts = range(2 * radius + 1)
    return np.any([padded[y : y + height, x : x + width] for y in shifts for x in shifts], axis=0)


def test_the_public_names() -> None:
    assert paddy.__all__ == sorted(paddy.__all__)
    assert CLASSES[0] == "normal"
    assert list(DISEASES) == sorted(DISEASES)
    assert len(set(CLASSES)) == 10


@pytest.mark.parametrize("disease", CLASSES)
def test_equal_generators_draw_equal_photos(disease: str) -> None:
    first, second = draw(disease, seeded(5)), draw(disease, seeded(5))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)
    assert not np.array_equal(first.image, draw(disease, seeded(6)).image)


@pytest.mark.parametrize("size", [64, 96, 101, 128])
def test_shapes_and_types(size: int) -> None:
    photo = draw("blast", seeded(1), size)
    assert photo.image.shape == (size, size, 3)
    assert photo.mask.shape == (size, size)
    assert photo.image.dtype == photo.mask.dtype == np.uint8
    assert set(np.unique(photo.mask)) == {BACKGROUND, PLANT, SYMPTOM}


def test_a_photo_is_the_same_picture_at_any_size() -> None:
    small = draw("tungro", seeded(2), 64).image.astype(float)
    large = draw("tungro", seeded(2), 128).image.astype(float)
    halved = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.9


def test_the_generator_alone_makes_the_scene(photos: dict[str, list[Photo]]) -> None:
    for healthy, *sick in zip(*photos.values(), strict=True):
        for photo in sick:
            assert np.array_equal(photo.mask > BACKGROUND, healthy.mask > BACKGROUND)


@pytest.mark.parametrize("disease", DISEASES)
def test_only_the_symptom_differs_from_health(photos: dict[str, list[Photo]], disease: str) -> None:
    for healthy, sick in zip(photos["normal"], photos[disease], strict=True):
        change = np.abs(sick.image.astype(int) - healthy.image.astype(int)).max(axis=2)
        symptom = sick.mask == SYMPTOM
        # less than half of a pixel may be sick without its being counted, so not all is inside
        assert change[symptom].sum() > 0.6 * change.sum()
        assert change[grown(symptom, 2)].sum() > 0.93 * change.sum()
        assert np.mean(change[symptom] > 12) > 0.9


def test_health_has_no_symptom(photos: dict[str, list[Photo]]) -> None:
    assert all(photo.mask.max() == PLANT for photo in photos["normal"])
    plant = [np.mean(photo.mask == PLANT) for photo in photos["normal"]]
    assert 0.25 < min(plant) < max(plant) < 0.95


@pytest.mark.parametrize("disease", DISEASES)
def test_symptom_areas(photos: dict[str, list[Photo]], disease: str) -> None:
    areas = [np.mean(photo.mask == SYMPTOM) for photo in photos[disease]]
    least, largest = AREAS[disease]
    assert least <= min(areas)
    assert max(areas) <= largest
    assert np.ptp(areas) > 0.01


@pytest.mark.parametrize("disease", DISEASES)
def test_no_sick_photo_lacks_its_symptom_even_when_small(disease: str) -> None:
    shares = [np.mean(draw(disease, seeded(i), 64).mask == SYMPTOM) for i in range(10)]
    assert min(shares) > 0.005


def nearest_centroid(features: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy on the second half of the rows of the nearest class mean of the first half."""
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    half = len(labels) // 2
    means = np.stack([features[:half][labels[:half] == c].mean(axis=0) for c in np.unique(labels)])
    distances = ((features[half:, None] - means[None]) ** 2).sum(axis=2)
    guesses = np.unique(labels)[distances.argmin(axis=1)]
    return float(np.mean(guesses == labels[half:]))


@pytest.fixture(scope="module")
def sample() -> tuple[list[Photo], np.ndarray]:
    """Two dozen independent photos of every class, the classes in turn."""
    labels = np.tile(np.arange(len(CLASSES)), 24)
    return [draw(CLASSES[c], seeded(1000 + i), 64) for i, c in enumerate(labels)], labels


def histogram(pixels: np.ndarray) -> np.ndarray:
    """Eight bins for each colour channel."""
    counts = [np.histogram(pixels[:, c], bins=8, range=(0, 256))[0] for c in range(3)]
    return np.concatenate(counts) / len(pixels)


def corners(image: np.ndarray) -> np.ndarray:
    """The mean colours of the four corners, 8 pixels wide."""
    parts = (slice(0, 8), slice(-8, None))
    return np.concatenate([image[y, x].mean(axis=(0, 1)) for y in parts for x in parts])


def test_the_background_does_not_betray_the_class(sample: tuple[list[Photo], np.ndarray]) -> None:
    photos, labels = sample
    behind = np.stack([histogram(p.image[p.mask == BACKGROUND]) for p in photos])
    assert nearest_centroid(behind, labels) <= 0.2


def test_what_is_not_symptom_does_not_betray_the_class(
    sample: tuple[list[Photo], np.ndarray],
) -> None:
    photos, labels = sample
    sound = np.stack([histogram(p.image[~grown(p.mask == SYMPTOM, 2)]) for p in photos])
    assert nearest_centroid(sound, labels) <= 0.25


def test_the_corners_do_not_betray_the_class(sample: tuple[list[Photo], np.ndarray]) -> None:
    photos, labels = sample
    assert nearest_centroid(np.stack([corners(p.image) for p in photos]), labels) <= 0.2


def test_the_symptoms_do_betray_the_class(sample: tuple[list[Photo], np.ndarray]) -> None:
    photos, labels = sample
    sick = [p for p in photos if p.mask.max() == SYMPTOM]
    colours = np.stack([histogram(p.image[p.mask == SYMPTOM]) for p in sick])
    assert nearest_centroid(colours, labels[labels > 0]) > 0.5


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="no disease 'rust'; choose one of normal, "):
        draw("rust", seeded(0))
    with pytest.raises(UsageError, match="64 or more"):
        draw("blast", seeded(0), 63)
