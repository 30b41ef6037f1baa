"""Score-CAM from a part of its channels: exact where nothing is guessed, honest where much is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mitate
from mitate.errors import UsageError
from mitate.explain.estimating.anytime import (
    PROBABILITY,
    RATIO,
    VALUE,
    correlation,
    estimated_weights,
)
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from mitate.tensors import generators, to_unit_range
from oracles import networks

CHANNELS, GRID = 400, (6, 8)


def smooth(*shape: int, seed: int) -> torch.Tensor:
    """Random planes that change slowly, as activations do."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(*shape[:-2], 3, 3, generator=generator, dtype=torch.float64)
    return F.interpolate(coarse, shape[-2:], mode="bicubic", align_corners=False)


def estimate(activations: torch.Tensor, scores: torch.Tensor, **options):
    """Estimate from scores that are known beforehand; tell which were asked for."""
    asked = torch.zeros(scores.shape[:2], dtype=torch.bool)

    def score(wanted: torch.Tensor) -> torch.Tensor:
        assert not (asked & wanted).any()  # nothing is scored twice
        asked[wanted] = True
        return torch.where(wanted[..., None], scores, 0)

    chosen = {"link": PROBABILITY, "tolerance": 0.02, "signed": False, "seed": 0} | options
    weights, told = estimated_weights(
        activations,
        chosen.pop("live", torch.ones_like(asked)),
        score,
        scores.shape[2],
        chosen.pop("link"),
        generators(chosen.pop("seed"), list(activations)),
        **chosen,
    )
    assert torch.equal(told.scored, asked.sum(1))
    return weights, told, asked


def maps(weights: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bkc,bchw->bkhw", weights, activations).relu().flatten(2)


def of_the_masks(activations: torch.Tensor, seed: int) -> torch.Tensor:
    """Scores (b, c, 2) that follow the masks, by a random bump in the middle of nowhere."""
    masks = to_unit_range(activations).flatten(2)
    generator = torch.Generator().manual_seed(seed)
    towards = torch.randn(masks.shape[2], 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(*masks.shape[:2], 2, generator=generator, dtype=torch.float64)
    return (2 * (masks - 0.5) @ towards / 3 + 0.2 * noise - 2).sigmoid()


def test_scores_that_follow_the_masks_are_foretold_and_the_error_is_within_the_told() -> None:
    within, shares, truths = [], [], []
    for seed in range(12):
        activations = smooth(1, CHANNELS, *GRID, seed=seed).relu()
        scores = of_the_masks(activations, seed)
        weights, told, asked = estimate(activations, scores)
        truth = 1 - correlation(maps(weights, activations), maps(scores.mT, activations))
        assert (told.error <= 0.02).all()
        within += (truth <= told.error).flatten().tolist()
        truths += truth.flatten().tolist()
        shares.append(float(told.scored / told.channels))
        torch.testing.assert_close(weights.mT[asked], scores[asked])
    assert sum(within) >= 0.9 * len(within)
    assert max(truths) < 0.02
    assert max(shares) < 0.5


def test_scores_that_follow_nothing_are_scored_to_the_end() -> None:
    activations = smooth(1, 200, *GRID, seed=0)  # signed, so that errors do not average out
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(1, 200, 2, generator=generator, dtype=torch.float64)
    weights, told, asked = estimate(activations, scores)
    assert asked.all()
    assert torch.equal(weights, scores.mT)
    assert not told.error.any()


def test_a_smaller_tolerance_scores_more() -> None:
    activations = smooth(1, CHANNELS, *GRID, seed=3).relu()
    scores = of_the_masks(activations, 3)
    scored = [
        int(estimate(activations, scores, tolerance=t)[1].scored) for t in (0.5, 0.05, 0.01, 1e-12)
    ]
    assert scored == sorted(scored)
    assert scored[0] < scored[2] < scored[3] == CHANNELS


@pytest.mark.parametrize("signed", [False, True])
def test_the_error_is_of_the_map_that_is_given(signed: bool) -> None:
    activations = smooth(1, CHANNELS, *GRID, seed=4)
    scores = of_the_masks(activations, 4)
    weights, told, _ = estimate(activations, scores, signed=signed, tolerance=0.1)
    sums = [torch.einsum("bkc,bchw->bkhw", w, activations) for w in (weights, scores.mT)]
    ours, exact = (s.flatten(2) if signed else s.relu().flatten(2) for s in sums)
    assert (1 - correlation(ours, exact) <= told.error).all()
    assert (told.scored < CHANNELS).all()


def test_an_image_draws_the_same_in_any_batch() -> None:
    activations = smooth(3, CHANNELS, *GRID, seed=5).relu()
    scores = of_the_masks(activations, 5)
    together, told, asked = estimate(activations, scores)
    for i in range(3):
        alone, own, of_its_own = estimate(activations[i : i + 1], scores[i : i + 1])
        assert torch.equal(asked[i], of_its_own[0])
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(told.of([i]).error, own.error, rtol=0, atol=1e-10)


def test_the_seed_draws_the_channels() -> None:
    activations = smooth(1, CHANNELS, *GRID, seed=6).relu()
    scores = of_the_masks(activations, 6)
    first, again, other = (estimate(activations, scores, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[2], again[2])
    assert not torch.equal(first[2], other[2])


def test_dead_channels_are_left_out() -> None:
    activations = smooth(2, CHANNELS, *GRID, seed=7).relu()
    live = torch.arange(CHANNELS).expand(2, -1) % 3 > 0
    weights, told, asked = estimate(activations, of_the_masks(activations, 7), live=live)
    assert not (asked & ~live).any()
    assert not weights.mT[~live].any()
    assert torch.equal(told.channels, live.sum(1))


@pytest.mark.parametrize("link", [PROBABILITY, RATIO])
def test_a_link_leads_there_and_back(link) -> None:
    scores = torch.tensor([[0.9, 1e-6], [0.2, 3e-7], [1e-4, 2e-9]], dtype=torch.float64)
    torch.testing.assert_close(link.back(link.to(scores)), scores)
    nothing = torch.zeros(3, 1, dtype=torch.float64)
    assert link.to(nothing).isfinite().all()
    assert PROBABILITY.to(nothing + 1).isfinite().all()


def test_values_may_be_negative() -> None:
    activations = smooth(1, CHANNELS, *GRID, seed=8).relu()
    scores = of_the_masks(activations, 8).logit()
    weights, told, _ = estimate(activations, scores, link=VALUE, signed=True)
    exact = torch.einsum("bkc,bchw->bkhw", scores.mT, activations).flatten(2)
    ours = torch.einsum("bkc,bchw->bkhw", weights, activations).flatten(2)
    assert (1 - correlation(ours, exact) <= told.error).all()
    assert (told.scored < CHANNELS).all()


class Wide(networks.Halves):
    """Enough channels to leave some out."""

    def __init__(self, channels: int = 160) -> None:
        super().__init__()
        self.tapped = nn.Sequential(nn.Conv2d(3, channels, 5, stride=4, padding=2), nn.ReLU())
        self.head = nn.Linear(channels, networks.CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.tapped(images).mean((-2, -1)) * 40)


def wide(channels: int = 160) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Wide(channels).double().eval()
    return Classifier.from_module(network, classes=networks.CLASSES)


def images(number: int) -> torch.Tensor:
    return smooth(number, 3, 32, 48, seed=9)


@pytest.mark.parametrize("channel_softmax", [False, True])
@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_all_channels_scored_is_the_exact_map(task: str, channel_softmax: bool) -> None:
    classifier = mitate.Classifier.from_module(wide(64).network, classes=networks.CLASSES)
    classifier = type(classifier)(**{**vars(classifier), "task": task})
    options = {"channel_softmax": channel_softmax, "batch_size": 5}
    exact = Explainer(classifier, "scorecam", "tapped", **options)(images(2))
    made = Explainer(classifier, "scorecam", "tapped", tolerance=1e-12, **options)(images(2))
    torch.testing.assert_close(made.maps, exact.maps, rtol=1e-9, atol=1e-12)
    assert exact.estimate is None
    assert not made.estimate.error.any()
    assert torch.equal(made.estimate.scored, made.estimate.channels)
    assert made.cost == exact.cost


def test_few_channels_are_all_scored() -> None:
    network, photos = networks.make("with relu"), networks.make_images(2)
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    exact = Explainer(classifier, "scorecam", network.layer)(photos)
    made = Explainer(classifier, "scorecam", network.layer, tolerance=0.5)(photos)
    assert torch.equal(made.maps, exact.maps)
    assert made.cost == exact.cost


@pytest.mark.parametrize("channel_softmax", [False, True])
def test_fewer_forwards_are_run_and_counted(channel_softmax: bool) -> None:
    classifier, photos = wide(), images(3)
    forwards = []
    handle = classifier.network.register_forward_hook(
        lambda _, given, __: forwards.append(len(given[0]))
    )
    options = {"tolerance": 0.1, "channel_softmax": channel_softmax, "batch_size": 7}
    made = Explainer(classifier, "scorecam", "tapped", **options)(photos)
    handle.remove()
    exact = Explainer(classifier, "scorecam", "tapped", channel_softmax=channel_softmax)(photos)
    told = made.estimate
    assert made.cost == pytest.approx(1 + float(told.scored.double().mean()))
    assert made.cost < 0.8 * exact.cost
    assert exact.cost == pytest.approx(1 + float(told.channels.double().mean()))
    assert sum(forwards) >= int(told.scored.sum()) + 3
    truth = 1 - correlation(made.maps.flatten(2), exact.maps.flatten(2))
    assert (truth <= told.error).double().mean() >= 0.9
    assert told.error.max() <= 0.1
    if channel_softmax:
        torch.testing.assert_close(
            made.maps.sum((-2, -1)), exact.maps.sum((-2, -1)), rtol=0.1, atol=0
        )


def test_batches_and_slices_keep_their_estimates() -> None:
    classifier, photos = wide(), images(3)
    explain = Explainer(classifier, "scorecam", "tapped", tolerance=0.1, batch_size=2)
    together = explain(photos)
    for i, alone in enumerate(map(explain, photos)):
        torch.testing.assert_close(together[i].maps, alone.maps, rtol=0, atol=1e-10)
        assert torch.equal(together[i].estimate.scored, alone.estimate.scored)
        torch.testing.assert_close(together[i].estimate.error, alone.estimate.error)
    assert together[1:].estimate.error.shape == (2, 3)


def test_scores_that_are_not_finite_are_flagged() -> None:
    classifier = wide()
    with torch.no_grad():
        classifier.network.head.bias[2] = float("nan")
    made = Explainer(classifier, "scorecam", "tapped", tolerance=0.1)(images(1), targets=[2])
    assert [flag.kind for flag in made.flags] == ["not finite"]
    assert torch.equal(made.estimate.scored, made.estimate.channels)


def test_an_image_without_live_channels_has_nothing_to_estimate() -> None:
    classifier = wide()
    nn.init.zeros_(classifier.network.tapped[0].weight)
    made = Explainer(classifier, "scorecam", "tapped", tolerance=0.1)(images(1))
    assert [flag.kind for flag in made.flags] == ["zero"] * 3
    assert not made.estimate.error.any()
    assert not made.estimate.channels.any()


def test_masks_that_are_not_finite_are_not_guessed_from() -> None:
    activations = smooth(1, 64, *GRID, seed=2)
    activations[0, 5, 0, 0] = float("inf")
    scores = of_the_masks(smooth(1, 64, *GRID, seed=2), 2)
    weights, _, asked = estimate(activations, scores)
    assert asked.all()
    assert torch.equal(weights, scores.mT)


def test_half_precision() -> None:
    network = wide().network.bfloat16()
    classifier = Classifier.from_module(network, classes=networks.CLASSES)
    made = Explainer(classifier, "scorecam", "tapped", tolerance=0.1)(images(1).bfloat16())
    assert made.maps.dtype == made.estimate.error.dtype == torch.float32
    assert made.maps.isfinite().all()


@pytest.mark.parametrize(
    ("options", "layer", "said"),
    [
        ({"tolerance": -0.1}, "tapped", "use 0 "),
        ({"tolerance": 1.0}, "tapped", "less than 1"),
        ({"tolerance": 0.1, "principal": True}, "tapped", "leave out principal"),
        ({"tolerance": 0.1, "augment": True}, "tapped", "leave out augment"),
        ({"tolerance": 0.1}, "tapped + tapped.0", "further layers"),
    ],
)
def test_what_cannot_be_estimated_is_refused(options: dict, layer: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Explainer(wide(), "scorecam", layer, **options)(images(1))


def test_no_live_channel_gives_a_map_of_zeros_by_the_channels_softmax() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    nn.init.constant_(network[0].bias, -100)
    images = torch.rand(2, 3, 12, 12)
    for tolerance in (0.0, 0.1):
        options = {"channel_softmax": True, "tolerance": tolerance}
        found = Explainer(network, "scorecam", "1", **options)(images, top_k=1)
        assert not found.maps.any()
        assert {flag.kind for flag in found.flags} == {"zero"}
