"""What threads share: turns, and switches that the last to leave puts back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event, Thread

import pytest
import torch
from torch import Tensor, nn

from mitate import Explainer
from mitate.explain.attention import plain_attention
from mitate.explain.hooks import Place
from mitate.explain.tap import tapped_forward
from mitate.models.mode import evaluating
from mitate.sharing import Together, turn

THREADS, ROUNDS = 4, 12


def network_of_batch_norms() -> nn.Sequential:
    """One whose maps and buffers tell the mode that it is run in."""
    convolutions = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
    return nn.Sequential(
        *convolutions, nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), Pooled(), nn.Linear(8, 3)
    )


class Pooled(nn.Module):
    def forward(self, cells: Tensor) -> Tensor:
        return cells.mean((2, 3))


def test_a_turn_is_one_threads_and_it_may_enter_again() -> None:
    thing, entered = nn.Identity(), Event()

    def enter() -> None:
        with turn(thing):
            entered.set()

    with turn(thing), turn(thing):
        thread = Thread(target=enter)
        thread.start()
        with turn(nn.Identity()):
            assert not entered.wait(0.2)
    thread.join()
    assert entered.is_set()


def test_the_last_to_leave_puts_back() -> None:
    told: list[str] = []

    @contextmanager
    def switched() -> Iterator[None]:
        told.append("on")
        yield
        told.append("off")

    together, inside, left = Together(switched), Event(), Event()

    def stay() -> None:
        with together():
            inside.set()
            left.wait()

    thread = Thread(target=stay)
    with together():
        thread.start()
        inside.wait()
    assert told == ["on"]
    left.set()
    thread.join()
    assert told == ["on", "off"]
    with pytest.raises(KeyError), together():
        raise KeyError
    assert told == ["on", "off"] * 2


def test_fused_attention_is_allowed_again_when_threads_leave_in_any_order() -> None:
    inside, left = Event(), Event()

    def stay() -> None:
        with plain_attention():
            inside.set()
            left.wait()

    before = torch.backends.cuda.flash_sdp_enabled()
    thread = Thread(target=stay)
    with plain_attention():
        thread.start()
        inside.wait()
    left.set()
    thread.join()
    assert torch.backends.cuda.flash_sdp_enabled() == before


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("method", ["gradcam", "layercam", "scorecam", "loupe"])
def test_threads_explain_one_network_as_one_thread_does(method: str, training: bool) -> None:
    torch.manual_seed(0)
    network = network_of_batch_norms().train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.randn(THREADS, 2, 3, 32, 32)
    options = {"steps": 2} if method == "loupe" else {}
    expected = [Explainer(network, method, **options)(one, 2).maps for one in images]
    start = Barrier(THREADS)

    def explain(one: Tensor) -> list[Tensor]:
        start.wait()
        return [Explainer(network, method, **options)(one, 2).maps for _ in range(ROUNDS)]

    with ThreadPoolExecutor(THREADS) as pool:
        for wanted, found in zip(expected, pool.map(explain, images), strict=True):
            for maps in found:
                torch.testing.assert_close(maps, wanted)
    assert all(module.training == training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_tap_does_not_hear_the_forwards_of_other_threads() -> None:
    """As of a server that predicts in one thread and explains in another."""
    network, heard = network_of_batch_norms().eval(), []
    images, others = torch.randn(1, 3, 32, 32), torch.randn(5, 3, 32, 32)

    def predict() -> None:
        with torch.no_grad():
            heard.append((network(others), torch.is_grad_enabled()))

    def read(output: Tensor) -> Tensor:
        if not heard:
            thread = Thread(target=predict)
            thread.start()
            thread.join()
        return output

    layer = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    forward = tapped_forward(network, images, [Place(layer, "it")], read=read, gradients=True)
    assert forward.activations[0].shape[0] == 1
    (logits, recording), *_ = heard
    assert not logits.requires_grad
    assert not recording


def test_a_network_is_in_evaluation_mode_until_the_last_thread_has_left() -> None:
    network, inside, seen = nn.Dropout(), Event(), []

    def enter() -> None:
        inside.set()
        with evaluating(network):
            seen.append(network.training)

    with evaluating(network):
        thread = Thread(target=enter)
        thread.start()
        inside.wait()
    thread.join()
    assert seen == [False]
    assert network.training
