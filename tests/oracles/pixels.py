"""Methods of pixels, re-derived from papers: one image, one class, colours in loops."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from oracles.gradients import Plane
from oracles.maps import enlarged, gradcam, scaled
from oracles.networks import ChannelsLast, Convolutions, Halves, Pooled

Term = tuple[Tensor, Tensor, bool]  # an operation's output, what it added, and whether NHWC


def slope(network: Halves, image: Tensor, target: int) -> list[Plane]:
    """The gradient of the logit at the pixels, a plane a colour."""
    leaf = image.clone().requires_grad_()
    (found,) = torch.autograd.grad(network.after(network.before(leaf[None]))[0, target], leaf)
    return found.tolist()


def strongest(colours: list[Plane], signed: bool) -> Plane:
    """Of each pixel the colour's value that is farthest from zero, or how far."""

    def of(values: tuple[float, ...]) -> float:
        farthest = max(values, key=abs)
        return farthest if signed else abs(farthest)

    return [[of(at) for at in zip(*rows, strict=True)] for rows in zip(*colours, strict=True)]


def added_up(colours: list[Plane], signed: bool) -> Plane:
    lowest = -np.inf if signed else 0.0
    return [
        [max(sum(at), lowest) for at in zip(*rows, strict=True)]
        for rows in zip(*colours, strict=True)
    ]


def times(colours: list[Plane], others: list[Plane]) -> list[Plane]:
    return (
        torch.tensor(colours, dtype=torch.float64) * torch.tensor(others, dtype=torch.float64)
    ).tolist()


def gradient(network: Halves, image: Tensor, target: int, *, signed: bool = False) -> Plane:
    """Simonyan et al. 2013, section 3.1: the largest size over the colours."""
    return strongest(slope(network, image, target), signed)


def smoothgrad(
    network: Halves, image: Tensor, target: int, *, noise: list[Tensor], signed: bool = False
) -> Plane:
    """Smilkov et al. 2017: the mean gradient of noisy images."""
    looks = [torch.tensor(slope(network, image + added, target)) for added in noise]
    mean = torch.stack(looks).double().mean(0)
    return strongest(mean.tolist(), signed)


def inputxgradient(network: Halves, image: Tensor, target: int, *, signed: bool = False) -> Plane:
    """Shrikumar et al. 2016: the gradient times the input."""
    return added_up(times(slope(network, image, target), image.tolist()), signed)


def integratedgradients(
    network: Halves, image: Tensor, target: int, *, steps: int, start: Tensor, signed: bool = False
) -> Plane:
    """Sundararajan et al. 2017, equation 1, by NumPy's nodes of Gauss and Legendre."""
    total = torch.zeros_like(image)
    for node, weight in zip(*np.polynomial.legendre.leggauss(steps), strict=True):
        place = start + (node + 1) / 2 * (image - start)
        total += weight / 2 * torch.tensor(slope(network, place, target), dtype=torch.float64)
    return added_up(times(total.tolist(), (image - start).tolist()), signed)


def guided(network: Convolutions, image: Tensor, target: int) -> list[Plane]:
    """Springenberg et al. 2015: the ReLU passes what is positive where its input is."""
    leaf = image.clone().requires_grad_()
    before = network.before(leaf[None])
    after = before.detach().relu().requires_grad_()
    score = network.head(network.last(after).tanh().mean((-2, -1)))[0, target]
    (come,) = torch.autograd.grad(score, after)
    passed = come * (come > 0) * (before.detach() > 0)
    (found,) = torch.autograd.grad(before, leaf, passed)
    return found.tolist()


def guidedgradcam(
    network: Convolutions, image: Tensor, target: int, *, signed: bool = False
) -> Plane:
    """Selvaraju et al. 2017, section 3.1: guided gradients times Grad-CAM's map, enlarged."""
    coarse = enlarged(gradcam(network, image, target), *image.shape[-2:])
    return added_up(times(guided(network, image, target), [coarse] * 3), signed)


def terms(network: Halves, image: Tensor) -> tuple[Tensor, list[Term], Tensor]:
    """The logits, each operation's output with what it added, and the pixels they came from."""
    leaf, out = image[None].clone().requires_grad_(), []

    def note(value: Tensor, added: Tensor, last: bool = False) -> Tensor:
        out.append((value, added, last))
        return value

    def bent(function, at: Tensor, last: bool = False) -> Tensor:
        value = function(at)
        _, along = torch.autograd.functional.jvp(function, at.detach(), at.detach())
        return note(value, value.detach() - along.detach(), last)

    def planes(bias: Tensor) -> Tensor:
        return bias.detach()[:, None, None]

    if isinstance(network, Convolutions):
        norm = network.norm
        x = note(network.stem(leaf), planes(network.stem.bias))
        spread = (norm.running_var + norm.eps).sqrt()
        x = note(norm(x), planes(norm.bias - norm.running_mean * norm.weight / spread))
        x = note(network.tapped(bent(torch.tanh, x)), planes(network.tapped.bias))
        x = note(
            network.last(F.relu(x) if isinstance(network.relu, torch.nn.ReLU) else x),
            planes(network.last.bias),
        )
        x = bent(torch.tanh, x).mean((-2, -1))
    elif isinstance(network, Pooled):
        x = note(network.tapped(leaf), planes(network.tapped.bias)).mean((-2, -1))
    elif isinstance(network, ChannelsLast):
        x = note(network.patches(leaf), planes(network.patches.bias)).permute(0, 2, 3, 1)
        norm, linear, _ = network.tapped
        x = note(linear(bent(norm, x, True)), linear.bias.detach(), True)
        x = note(network.mix(bent(F.gelu, x, True)), network.mix.bias.detach(), True)
        x = bent(torch.tanh, x, True).mean((1, 2))
    return note(network.head(x), network.head.bias.detach()), out, leaf


def fullgrad(network: Halves, image: Tensor, target: int, *, signed: bool = False) -> Plane:
    """Srinivas and Fleuret 2019, equation 6: psi of input and biases times their gradients."""
    logits, found, leaf = terms(network, image)
    places = [leaf, *(value for value, _, _ in found)]
    slopes = torch.autograd.grad(logits[0, target], places)
    added = [leaf.detach(), *(bias for _, bias, _ in found)]
    lasts = [False, *(last for _, _, last in found)]
    total = np.zeros(image.shape[-2:])
    for gradient, bias, last in zip(slopes, added, lasts, strict=True):
        term = (gradient * bias)[0]
        if term.ndim != 3:
            continue
        term = (term.permute(2, 0, 1) if last else term).detach()
        shape = term.shape
        if signed:
            cells = shape[1] * shape[2] / total.size
            total += np.array(enlarged(term.sum(0).tolist(), *total.shape)) * cells
        else:
            flat = np.array(scaled(term.abs().flatten(1).tolist())).reshape(shape)
            total += sum(np.array(enlarged(plane.tolist(), *total.shape)) for plane in flat)
    return total.tolist()
