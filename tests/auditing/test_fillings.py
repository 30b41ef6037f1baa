import pytest
import torch

from mitate.auditing.fillings import FILLINGS, filled
from mitate.errors import UsageError
from mitate.models.preprocessing import Preprocessing
from mitate.tensors import generators

GREY = Preprocessing(size=(6, 8), mean=(0.4,), std=(0.2,))


def drawn(channels=3, number=2, size=(6, 8)):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(number, channels, *size, generator=generator, dtype=torch.float64)


def made(name, images, preprocessing=None):
    given = preprocessing or Preprocessing()
    return filled(name, images, generators(0, list(images)), given)


@pytest.mark.parametrize("name", FILLINGS)
def test_shape_and_batch_is_loop(name):
    images = drawn()
    whole = made(name, images)
    assert whole.shape == images.shape
    for place in range(2):
        assert torch.allclose(made(name, images[place : place + 1])[0], whole[place])


@pytest.mark.parametrize("name", ["blur", "mean", "noise"])
def test_the_normalisation_does_not_matter(name):
    images = drawn()
    seeds = generators(0, list(images)), generators(0, list(images))
    plain = FILLINGS[name](images, seeds[0], Preprocessing())
    other = FILLINGS[name](3 * images - 2, seeds[1], Preprocessing())
    torch.testing.assert_close(other, 3 * plain - 2)


def test_noise_is_the_image_s_own_pixels():
    image = drawn(number=1)
    found = made("noise", image)
    colours = [sorted(map(tuple, plane[0].flatten(1).T.tolist())) for plane in (image, found)]
    assert colours[0] == colours[1]
    assert not torch.equal(image, found)


def test_mean_by_hand():
    image = torch.tensor([[[[1.0, 2], [3, 6]]]])
    assert made("mean", image).unique().tolist() == [3]


def test_black_is_black_before_normalisation():
    photo = torch.zeros(8, 6, 3, dtype=torch.uint8).numpy()
    for order in ("RGB", "BGR"):
        preprocessing = Preprocessing(channel_order=order)
        expected = preprocessing.normalize(photo).double()
        assert torch.allclose(
            made("black", drawn(size=(8, 6)), preprocessing)[0], expected, atol=1e-6
        )
    assert made("black", drawn(1), GREY).unique().tolist() == pytest.approx([-2])


def test_what_cannot_be_filled_is_said():
    with pytest.raises(UsageError, match="black is not known for 3 channels"):
        made("black", drawn(), GREY)
    with pytest.raises(UsageError, match="no filling is called 'grey': use one of blur, mean"):
        made("grey", drawn())
