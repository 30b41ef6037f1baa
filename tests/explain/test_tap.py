import pytest
import torch
from torch import Tensor, nn

from mitate.errors import LayerError
from mitate.explain.hooks import Place
from mitate.explain.tap import tapped_forward
from mitate.explain.trace import trace
from oracles import networks


def first(output):
    return output[0] if isinstance(output, tuple) else output


class Noting(nn.Module):
    """The identity; notes whether what passes is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[bool] = []

    def forward(self, tensor: Tensor) -> Tensor:
        self.recorded.append(tensor.requires_grad or torch.is_grad_enabled())
        return tensor


def place(network: nn.Module, name: str = "tapped", call: int = -1) -> Place:
    return Place(network.get_submodule(name), name, call)


def test_nothing_before_the_layer_is_recorded() -> None:
    network, images = networks.make("with relu"), networks.make_images().requires_grad_()
    early, late = Noting(), Noting()
    network.norm = nn.Sequential(network.norm, early)
    network.relu = nn.Sequential(late, network.relu)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        forward = tapped_forward(network, images, [place(network)], read=first, gradients=True)
    forward.gradients(forward.logits[:, :2])
    assert (early.recorded, late.recorded) == ([False], [True])
    # The stem's activations are the only ones with 4 channels, at half the input's size.
    assert saved
    assert not [tensor.shape for tensor in saved if tensor.shape[1:] == (4, 8, 12)]
    assert not any(p.grad is not None for p in network.parameters())
    assert images.grad is None


def test_the_graph_begins_at_the_layer() -> None:
    network, images = networks.make("with relu"), networks.make_images()
    forward = tapped_forward(network, images, [place(network)], read=first, gradients=True)
    seen, todo = set(), [forward.logits.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [inner for inner, _ in node.next_functions]
    leaves = {node.variable for node in seen if hasattr(node, "variable")}
    early = {*network.stem.parameters(), *network.norm.parameters(), *network.tapped.parameters()}
    assert any(leaf is forward.activations[0] for leaf in leaves)
    assert not any(leaf is weight for leaf in leaves for weight in early)


def test_without_gradients_nothing_is_recorded() -> None:
    network, images = networks.make("with relu in place"), networks.make_images()
    forward = tapped_forward(network, images, [place(network)], read=first)
    assert not forward.logits.requires_grad
    torch.testing.assert_close(forward.activations[0], network.before(images).detach())


def test_several_layers_at_once_equal_each_alone() -> None:
    network, images = networks.make("with relu"), networks.make_images()
    places = [place(network, name) for name in ("stem", "tapped", "last")]
    together = tapped_forward(network, images, places, read=first, gradients=True)
    gradients = together.gradients(together.logits[:, :3])
    for one, gradient in zip(places, gradients, strict=True):
        alone = tapped_forward(network, images, [one], read=first, gradients=True)
        torch.testing.assert_close(alone.gradients(alone.logits[:, :3])[0], gradient)


def test_each_use_of_a_module_is_a_place_of_its_own() -> None:
    network, images = networks.make("used twice, last"), networks.make_images()
    places = [place(network, call=call) for call in (0, 1, -1, -2)]
    forward = tapped_forward(network, images, places, read=first, gradients=True)
    zero, one, last, before = forward.activations
    assert zero is before
    assert one is last
    assert not torch.equal(zero, one)


def test_a_layer_that_no_score_depends_on_gets_zeros() -> None:
    network, images = networks.make("several outputs"), networks.make_images()
    places = [place(network, "other"), place(network, "tapped")]
    forward = tapped_forward(network, images, places, read=first, gradients=True)
    aside, seen = forward.gradients(forward.logits[:, :2])
    assert aside.shape == (3, 2, 3)
    assert not aside.any()
    assert seen.any()


def test_the_logits_are_the_networks_own() -> None:
    for name in networks.MAKERS:
        network, images = networks.make(name), networks.make_images()
        where = [place(network)]
        forward = tapped_forward(network, images, where, read=first, gradients=True)
        torch.testing.assert_close(forward.logits, first(network(images)))


class Named(nn.Module):
    """A layer with a named tuple, an integer and a list among its outputs."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, tensor: Tensor):
        if self.kind == "named":
            return torch.max(tensor, dim=1, keepdim=True)
        if self.kind == "list":
            return [tensor, 3]
        return tensor.argmax(1) if self.kind == "whole" else {"features": tensor}


class Around(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner = Named(kind)
        self.unused = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        found = self.inner(images)
        if self.inner.kind == "named":
            found = found.values
        elif isinstance(found, list | dict):
            found = found[0] if isinstance(found, list) else found["features"]
        return found.double().flatten(1)


@pytest.mark.parametrize("kind", ["named", "list"])
def test_the_first_tensor_of_several_is_tapped(kind: str) -> None:
    network, images = Around(kind), networks.make_images(2)
    forward = tapped_forward(network, images, [place(network, "inner")], read=first, gradients=True)
    (gradient,) = forward.gradients(forward.logits[:, :1])
    assert gradient.flatten(2)[:, 0].sum(-1).tolist() == [1, 1]


@pytest.mark.parametrize(("kind", "given"), [("whole", "whole numbers"), ("dict", "dict")])
def test_a_layer_that_gives_no_numbers_is_refused(kind: str, given: str) -> None:
    network = Around(kind)
    with pytest.raises(LayerError, match=f"'inner' gives {given}, and no tensor of numbers"):
        tapped_forward(
            network, networks.make_images(1), [place(network, "inner")], read=first, gradients=True
        )


def test_a_layer_that_is_never_run_is_refused() -> None:
    network = Around("list")
    with pytest.raises(LayerError, match=r"'unused' is not run"):
        tapped_forward(network, networks.make_images(1), [place(network, "unused")], read=first)


def test_a_call_too_many_is_refused() -> None:
    network = networks.make("used twice, last")
    with pytest.raises(LayerError, match=r"run 2 time\(s\), and call 5 was asked for"):
        tapped_forward(network, networks.make_images(1), [place(network, call=5)], read=first)


def test_the_trace_lists_every_call_in_finishing_order() -> None:
    network = networks.make("used twice, last")
    calls = trace(network, networks.make_images(1))
    assert [(call.name, call.call) for call in calls] == [
        ("stem", 0),
        ("tapped", 0),
        ("tapped", 1),
        ("head", 0),
        ("", 0),
    ]
    assert not any(call.output.requires_grad for call in calls)
