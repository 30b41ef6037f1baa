"""What is seen where an image is taken away.

Each filling is of the image's own pixels but for black, and none depends on the normalisation.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mitate.errors import UsageError
from mitate.explain.methods.perturbed import blurred
from mitate.models.preprocessing import Preprocessing

Images = Float[Tensor, "b channels H W"]


def blur(images: Images, generators: Sequence[torch.Generator], _: Preprocessing) -> Images:
    """The image under a Gaussian of 51 pixels, or as many as fit."""
    return blurred(images)


def mean(images: Images, generators: Sequence[torch.Generator], _: Preprocessing) -> Images:
    """The image's mean colour."""
    return images.mean((-2, -1), keepdim=True).expand_as(images)


def noise(images: Images, generators: Sequence[torch.Generator], _: Preprocessing) -> Images:
    """The image's own pixels in random order."""
    places = [
        torch.randperm(image[0].numel(), generator=generator)
        for image, generator in zip(images, generators, strict=True)
    ]
    order = torch.stack(places)[:, None].to(images.device)
    flat = images.flatten(2)
    return flat.gather(2, order.expand_as(flat)).reshape(images.shape)


def black(
    images: Images, generators: Sequence[torch.Generator], preprocessing: Preprocessing
) -> Images:
    """Black before normalisation."""
    size = images.shape[1]
    if len(preprocessing.mean) != size:
        raise UsageError(
            f"black is not known for {size} channels and a preprocessing of "
            f"{len(preprocessing.mean)}: use the filling mean, blur or noise"
        )
    order = -1 if preprocessing.channel_order == "BGR" else 1
    level = [-m / s for m, s in zip(preprocessing.mean, preprocessing.std, strict=True)][::order]
    return images.new_tensor(level)[:, None, None].expand_as(images)


FILLINGS: dict[str, Callable[..., Images]] = {
    "blur": blur,
    "mean": mean,
    "noise": noise,
    "black": black,
}


def filled(
    name: str,
    images: Images,
    generators: Sequence[torch.Generator],
    preprocessing: Preprocessing,
) -> Images:
    """The pictures that are seen where images are taken away.

    Raises:
        UsageError: no such filling.
    """
    if name not in FILLINGS:
        raise UsageError(f"no filling is called {name!r}: use one of {', '.join(FILLINGS)}")
    return FILLINGS[name](images, generators, preprocessing)
