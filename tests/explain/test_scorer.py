import pytest
import torch
from torch import Tensor, nn

from largest import Largest
from mitate.explain.explainer import Explainer
from mitate.explain.scorer import Scorer
from mitate.models.classifier import Classifier
from oracles import networks


class Watched(nn.Module):
    """Notes the size of every batch that the network sees."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = network
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return self.inner(images)


def read(output):
    return output


def make_scorer(network: nn.Module, images: Tensor, **options) -> Scorer:
    classes = torch.tensor([[0, 2]]).expand(len(images), -1)
    whole = images.new_zeros(len(images), networks.CLASSES)
    return Scorer(network, read, images, classes, whole, **options)


@pytest.mark.parametrize(("batch_size", "batches"), [(16, [3, 15]), (4, [3, 4, 4, 4, 3])])
def test_one_forward_a_live_channel_in_batches_that_cross_images(
    batch_size: int, batches: list[int]
) -> None:
    watched, images = Watched(networks.make("with relu")), networks.make_images(3)
    explainer = Explainer(
        Classifier.from_module(watched, classes=5),
        "scorecam",
        "inner.tapped",
        batch_size=batch_size,
    )
    explanation = explainer(images, top_k=4)
    assert watched.batches == batches  # five of six channels are live, for any number of classes
    assert explanation.cost == 6
    assert explanation.maps.shape[1] == 4


def test_memory_does_not_depend_on_the_number_of_channels() -> None:
    largest = []
    for channels in (64, 512):
        network = nn.Sequential(
            nn.Conv2d(3, channels, 8, stride=16), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ).append(nn.Linear(channels, 4))
        explainer = Explainer(
            Classifier.from_module(network), "scorecam", "0", batch_size=4, show_progress=False
        )
        images = torch.randn(2, 3, 96, 96)
        with Largest() as watch:
            explainer(images, top_k=2)
        largest.append(watch.numbers)
        assert watch.numbers < channels * 96 * 96 * 4
    assert largest[0] == largest[1] == 4 * 3 * 96 * 96 * 4


def test_leaving_dead_channels_out_changes_nothing() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    masks = network.before(images).relu().detach()
    live = masks.amax((-2, -1)) > masks.amin((-2, -1))
    everything = torch.ones_like(live)
    scorer = make_scorer(network, images)
    some, full = scorer.probabilities(masks, live), scorer.probabilities(masks, everything)
    assert torch.equal(some, full * live[..., None])
    assert not live.all()


def test_nothing_wanted_runs_nothing() -> None:
    watched, images = Watched(networks.make("with relu")), networks.make_images(2)
    masks = torch.rand(2, 3, 4, 6, dtype=torch.float64)
    scores = make_scorer(watched, images).logits(masks, torch.zeros(2, 3, dtype=torch.bool))
    assert watched.batches == []
    assert not scores.any()


def test_progress_is_told_in_forwards() -> None:
    told: list[float] = []
    network, images = networks.make("with relu"), networks.make_images(2)
    scorer = make_scorer(network, images, batch_size=4, advance=told.append)
    masks = torch.rand(2, 3, 4, 6, dtype=torch.float64)
    scorer.logits(masks, torch.ones(2, 3, dtype=torch.bool))
    assert told == [4, 2]


def test_gradients_flow_to_the_masks() -> None:
    network, images = networks.make("with relu in place"), networks.make_images(2)
    network.train()
    owners = torch.tensor([0, 1, 1])
    masks = torch.rand(3, 1, 16, 24, dtype=torch.float64, requires_grad=True)
    logits = make_scorer(network, images).masked_logits(owners, masks)
    (slopes,) = torch.autograd.grad(logits[:, 1].sum(), masks)
    assert slopes.shape == masks.shape
    assert all(p.grad is None for p in network.parameters())
    assert network.training
    with torch.no_grad():
        step = 1e-6 * torch.randn(3, 1, 16, 24, dtype=torch.float64)
        moved = make_scorer(network, images).masked_logits(owners, masks + step)
    torch.testing.assert_close(
        (moved - logits)[:, 1].detach(), (slopes * step).flatten(1).sum(1), rtol=1e-3, atol=1e-12
    )


def test_masks_without_gradients_record_nothing() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    masks = torch.rand(2, 1, 16, 24, dtype=torch.float64)
    assert not make_scorer(network, images).masked_logits(torch.arange(2), masks).requires_grad


def test_scores_keep_the_gradients_of_masks_on_their_own_grid() -> None:
    network, images = networks.make("with relu"), networks.make_images(1)
    masks = torch.rand(1, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    scores = make_scorer(network, images).logits(masks, torch.ones(1, 3, dtype=torch.bool))
    (slopes,) = torch.autograd.grad(scores.sum(), masks)
    assert slopes.any()


def test_altered_images_are_made_for_whole_batches_and_scored_once() -> None:
    watched, images = Watched(networks.make("with relu")), networks.make_images(3)
    wanted = torch.ones(3, 4, dtype=torch.bool)
    wanted[1, 2] = False
    made: list[tuple[list[int], list[int]]] = []

    def make(owners: Tensor, numbers: Tensor) -> Tensor:
        made.append((owners.tolist(), numbers.tolist()))
        return images[owners] * numbers[:, None, None, None]

    scores = make_scorer(watched, images, batch_size=6).altered(wanted, make)
    assert watched.batches == [6, 5]
    assert made[0] == ([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1])
    expected = watched.inner(2 * images).softmax(1)[:, [0, 2]]
    torch.testing.assert_close(scores[[0, 2], 2], expected[[0, 2]])
    assert not scores[1, 2].any()
