import math

import pytest
import torch
import torch.nn.functional as F

from mitate.errors import UsageError
from mitate.training.losses import LOSSES, SMOOTH, bce, dice, focal, jaccard, summed, tversky

LOGIT = 20.0  # as good as certain


def certain(*rows):
    return LOGIT * (2 * torch.tensor(rows, dtype=torch.float64)[None, None] - 1)


def plain(*rows):
    return torch.tensor(rows, dtype=torch.float64)[None, None]


def everywhere(truth):
    return torch.ones(len(truth), 1, *truth.shape[-2:], dtype=torch.bool)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    truth = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    known = torch.rand(2, 1, 4, 5, generator=generator) > 0.3
    return logits, truth, known


@pytest.mark.parametrize(
    ("loss", "expected"),
    [  # two pixels right, one too much, two missed
        (dice, (2 * 2 + 2 * SMOOTH) / (2 * 2 + 1 + 2 + 2 * SMOOTH)),
        (jaccard, (2 + SMOOTH) / (2 + 1 + 2 + SMOOTH)),
        (tversky, (2 + SMOOTH) / (2 + 0.3 * 1 + 0.7 * 2 + SMOOTH)),
    ],
)
def test_overlaps_by_hand(loss, expected):
    drawn, truth = certain([1, 1, 1, 0, 0, 0]), plain([1, 1, 0, 1, 1, 0])
    found = loss(drawn, truth, everywhere(truth))
    assert float(found) == pytest.approx(1 - expected, abs=1e-6)


def slowly(name, logits, truth, known):
    """Each loss from its formula, pixel by pixel."""
    wrong = {"dice": (0.5, 0.5), "jaccard": (1, 1), "tversky": (0.3, 0.7)}
    losses = []
    for region in range(truth.shape[1]):
        overlap, missed, entropies = 0.0, 0.0, []
        for i, y, x in known[:, 0].nonzero().tolist():
            p = 1 / (1 + math.exp(-logits[i, region, y, x]))
            t = float(truth[i, region, y, x])
            entropy = -(t * math.log(p) + (1 - t) * math.log(1 - p))
            entropies.append(abs(p - t) ** 2 * entropy if name == "focal" else entropy)
            too_much, too_little = wrong.get(name, (0, 0))
            overlap += min(p, t)
            missed += too_much * max(p - t, 0) + too_little * max(t - p, 0)
        mean = sum(entropies) / len(entropies)
        losses.append(1 - (overlap + 1) / (overlap + missed + 1) if name in wrong else mean)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", LOSSES)
def test_against_the_slow_formula(batch, name):
    assert float(LOSSES[name](*batch)) == pytest.approx(slowly(name, *batch), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(batch, name):
    logits, truth, known = batch
    loss = LOSSES[name]
    assert torch.autograd.gradcheck(
        lambda drawn: loss(drawn, truth, known), logits.requires_grad_()
    )


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_not_known_teaches_nothing(batch, name):
    logits, truth, known = batch
    logits.requires_grad_()
    LOSSES[name](logits, truth, known).backward()
    hidden = ~known.expand_as(logits)
    assert (logits.grad[hidden] == 0).all()
    assert (logits.grad[~hidden] != 0).all()
    other = torch.where(hidden, 1 - truth, truth)
    assert torch.equal(LOSSES[name](logits, truth, known), LOSSES[name](logits, other, known))


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "focal"])
def test_a_soft_truth_is_best_met_as_it_is(name):
    """Where the usual soft Dice would draw every share above its threshold as one."""
    truth = plain([0.2, 0.5, 0.9])
    losses = [
        float(LOSSES[name](torch.logit(truth.clamp(0.001, 0.999) * s), truth, everywhere(truth)))
        for s in (0.8, 0.95, 1.0, 1.05, 1.1)
    ]
    assert min(losses) == losses[2] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_right_is_better_than_wrong_also_where_nothing_is_true(name):
    truth = plain([0, 0, 0, 0])
    right, wrong = (
        LOSSES[name](certain([level] * 4), truth, everywhere(truth)) for level in (0, 1)
    )
    assert float(right) == pytest.approx(0, abs=1e-6)
    assert float(wrong) > 0.5


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_known_is_no_loss(name):
    truth = plain([0.0, 1.0])
    assert float(LOSSES[name](certain([1, 1]), truth, ~everywhere(truth))) == 0


def test_focal_is_the_paper_s_where_the_truth_is_sure():
    logits = torch.linspace(-3, 3, 7, dtype=torch.float64)[None, None, None]
    truth = (torch.arange(7) % 2).double()[None, None, None]
    right = torch.where(truth == 1, logits.sigmoid(), 1 - logits.sigmoid())
    expected = (-((1 - right) ** 2) * right.log()).mean()
    assert torch.allclose(focal(logits, truth, everywhere(truth)), expected)


def test_bce_is_torch_s():
    logits, truth = torch.randn(2, 1, 3, 3), torch.rand(2, 1, 3, 3)
    expected = F.binary_cross_entropy_with_logits(logits, truth)
    assert torch.allclose(bce(logits, truth, everywhere(truth)), expected)


def test_sums(batch):
    assert torch.isclose(summed(["dice", "bce"])(*batch), dice(*batch) + bce(*batch))
    for names, words in ((["dise"], "dise"), ([], "none")):
        with pytest.raises(UsageError, match=f"{words}.*dice, jaccard, tversky, bce, focal"):
            summed(names)
