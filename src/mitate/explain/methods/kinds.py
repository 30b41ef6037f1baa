"""The kinds of evidence that a method may ask for, by name, and all that is known of each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of evidence.

    Attributes:
        what: what the method is given.
        word: what is looked at for it, in a word for users.
        at_layer: it is of a layer, and not of the input or of the network whole.
        gradient: it is the gradient of the scores at the layer, and all layers have theirs by one
            backward a score.
        scored: it tells the scores of other inputs, or what they are made of.
        derived: it sees the scores through their derivatives.
        recorded: the forward is recorded for it; what is derived and not recorded runs its own.
        counted: it runs forwards of its own, and tells how many.
        traced: it can be part of a static graph.
        volumes: there is such evidence of volumes too.
    """

    what: str
    word: str = ""
    at_layer: bool = False
    gradient: bool = False
    scored: bool = False
    derived: bool = False
    recorded: bool = False
    counted: bool = False
    traced: bool = False
    volumes: bool = True


# In the order in which one word stands for a method that asks for several.
EVIDENCE: dict[str, Kind] = {
    "scorer": Kind(
        "masked images -> scores", "masked forwards", scored=True, counted=True, volumes=False
    ),
    "suffix": Kind(
        "activations in the place of the layer's own -> scores, without what lies before",
        "forwards from the layer on",
        at_layer=True,
        scored=True,
        counted=True,
        volumes=False,
    ),
    "guided": Kind(
        "gradients of the scores at the pixels, past ReLUs where they are positive "
        "(b, k, channels, H, W)",
        "gradients of pixels and of the layer",
        derived=True,
        counted=True,
        volumes=False,
    ),
    "fullgradients": Kind(
        "each class's score taken apart: gradients times input, and times biases",
        "gradients of pixels and biases",
        derived=True,
        counted=True,
        volumes=False,
    ),
    "gradients": Kind(
        "of every target's score with respect to the activations (b, k, c, h, w)",
        "gradients",
        at_layer=True,
        gradient=True,
        derived=True,
        recorded=True,
        traced=True,
    ),
    "mean_gradients": Kind(
        "their mean over the layer's cells (b, k, c)",
        "gradients",
        at_layer=True,
        gradient=True,
        derived=True,
        recorded=True,
        traced=True,
    ),
    "pyramid": Kind(
        "activations and gradients of every layer, the finest grid first",
        "gradients of several layers",
        at_layer=True,
        derived=True,
        recorded=True,
        volumes=False,
    ),
    "curvature": Kind(
        "each score's Hessian times the activations (b, k, c, h, w)",
        "gradients",
        at_layer=True,
        derived=True,
        recorded=True,
    ),
    "noisy": Kind(
        "samples and spread -> activations and gradients of noisy images, one after the other",
        "gradients of noisy images",
        at_layer=True,
        derived=True,
        counted=True,
    ),
    "slopes": Kind(
        "images -> gradients of the scores with respect to the pixels",
        "gradients of pixels",
        derived=True,
        counted=True,
        volumes=False,
    ),
    "attention": Kind(
        "attention probabilities of every block, and their gradients",
        "attention",
        at_layer=True,
        derived=True,
        recorded=True,
        volumes=False,
    ),
    "head": Kind(
        "the linear classifier behind pooling, at every cell",
        "weights of the head",
        at_layer=True,
        scored=True,
        traced=True,
    ),
    "activations": Kind(
        "what the layer gave (b, c, h, w)", "activations", at_layer=True, traced=True
    ),
    "images": Kind(
        "the preprocessed images (b, channels, H, W)", "images", traced=True, volumes=False
    ),
    "grid": Kind("height and width of the layer's grid", at_layer=True, traced=True, volumes=False),
    "classes": Kind("the explained classes (b, k)", traced=True),
    "generators": Kind("a random generator an image, seeded by the user's seed and the image"),
}
