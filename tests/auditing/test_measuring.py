import math

import pytest
import torch
from torch import Tensor, nn

import tiny
from mitate.auditing.measuring import measure, planned_forwards
from mitate.auditing.table import DEFAULT_METRICS, METRICS
from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.models.classifier import Classifier
from oracles import networks

NUMBER = 3
SMALL = {"samples": 4, "stages": 3}
# Those that ask for a segmentation of the network's own are measured in test_agreement.
EVERY = [name for name, metric in METRICS.items() if not metric.needs_segmentation]
ONCE = [name for name in EVERY if not METRICS[name].explains_again]


class Watched(nn.Module):
    """Counts the images that the network sees."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = network, 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return self.inner(images)


def images(number=NUMBER):
    return networks.make_images(number)


def maps(seed=0, number=NUMBER):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, 4, 6, generator=generator, dtype=torch.float64)


def masks(number=NUMBER):
    found = torch.zeros(number, *networks.SIZE)
    found[:, 3:9, 5:12] = 1
    return found


def made(network=None):
    return Classifier.from_module(network or networks.make("with relu"), classes=5)


CLASSES = torch.tensor([0, 3, 4])


def run(names, entered, *, classifier=None, number=NUMBER, options=SMALL, **given):
    chosen = [METRICS[name] for name in names]
    known = {name for metric in chosen for name in metric.options}
    return measure(
        classifier or made(),
        images(number),
        CLASSES[:number],
        entered,
        names,
        masks=masks(number),
        options={name: value for name, value in options.items() if name in known},
        **given,
    )


def test_every_metric_of_every_contender_has_one_value_an_image():
    classifier = made()
    explainers = {
        name: Explainer(classifier, name, "tapped") for name in ("gradcam", "hirescam", "random")
    }
    entered = {
        name: explainer(images(), targets=CLASSES).maps[:, 0]
        for name, explainer in explainers.items()
    }
    found = run(EVERY, entered, classifier=classifier, explainers=explainers)
    assert set(found.values) == {(name, metric) for name in entered for metric in EVERY}
    for (_, metric), values in found.values.items():
        low, high = METRICS[metric].range
        assert values.shape == (NUMBER,)
        assert not values.isnan().all()
        assert ((values >= low - 1e-6) & (values <= high + 1e-6) | values.isnan()).all()
    assert set(found.spreads) == set(entered)
    for (_, curve), heights in found.curves.items():
        assert heights.shape == (NUMBER, len(found.fractions[curve]))


@pytest.mark.parametrize("contenders", [1, 3])
def test_forwards_are_planned_counted_and_shared(contenders):
    watched = Watched(networks.make("with relu"))
    entered = {str(seed): maps(seed) for seed in range(contenders)}
    told: list[float] = []
    found = run(ONCE, entered, classifier=made(watched), advance=told.append)
    options = {"samples": 4}
    planned = planned_forwards(ONCE, contenders, options=options)
    assert found.forwards == planned == watched.seen / NUMBER == sum(told) / NUMBER
    alone = sum(
        planned_forwards(
            [name], contenders, options={"samples": 4} if "samples" in METRICS[name].options else {}
        )
        for name in ONCE
    )
    assert planned <= alone / 2


def test_the_default_audit_costs_at_most_half_of_its_metrics_one_by_one():
    alone = 9 * sum(planned_forwards([name], 1) for name in DEFAULT_METRICS)
    assert planned_forwards(DEFAULT_METRICS, 9) <= alone / 2


def test_new_maps_are_planned_and_counted():
    names = ["coherency", "adcc", "random_logit", "stability", "max_sensitivity"]
    classifier = made()
    explainer = Explainer(classifier, "gradcam", "tapped")
    entered = {"gradcam": explainer(images(), targets=CLASSES).maps[:, 0]}
    found = run(names, entered, classifier=classifier, explainers={"gradcam": explainer})
    # One forward, the image through its map, and 1 + 1 + 5 + 4 new maps of 3 forwards each.
    assert found.forwards == planned_forwards(names, 1, options={"samples": 4}) == 2 + 11 * 3


def test_batch_is_loop_whatever_the_forwards_in_one():
    whole = run(ONCE, {"a": maps(), "b": maps(1)})
    again = run(ONCE, {"b": maps(1), "a": maps()}, batch_size=5)
    for place in range(NUMBER):
        alone = measure(
            made(),
            images()[place : place + 1],
            CLASSES[place : place + 1],
            {"a": maps()[place : place + 1]},
            ONCE,
            masks=masks(1),
            options={"samples": 4},
        )
        for name in ONCE:
            value = whole.values["a", name][place]
            torch.testing.assert_close(alone.values["a", name][0], value, equal_nan=True)
            torch.testing.assert_close(again.values["a", name][place], value, equal_nan=True)


def test_a_map_that_is_not_finite_is_measured_in_nothing_and_costs_nothing():
    broken = maps()
    broken[1, 0, 0] = math.nan
    watched = Watched(networks.make("with relu"))
    found = run(ONCE, {"a": broken}, classifier=made(watched))
    good = run(ONCE, {"a": maps()})
    for name in ONCE:
        values = found.values["a", name]
        assert values[1].isnan()
        torch.testing.assert_close(values[::2], good.values["a", name][::2], equal_nan=True)
    assert found.curves["a", "deletion"][1].isnan().all()
    assert found.forwards < good.forwards


def test_the_global_state_of_random_numbers_is_not_touched():
    before = torch.get_rng_state()
    one = run(ONCE, {"a": maps()}, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    two = run(ONCE, {"a": maps()}, seed=1)
    other = run(ONCE, {"a": maps()}, seed=2)
    name = ("a", "faithfulness_correlation")
    assert torch.equal(one.values[name], two.values[name])
    assert not torch.equal(one.values[name], other.values[name])


def test_a_constant_map_ranks_at_random_and_wins_nothing():
    found = run(["pointing", "rank_accuracy", "deletion"], {"a": torch.full((NUMBER, 4, 6), 0.1)})
    area = masks()[0].mean().item()
    assert found.values["a", "pointing"].tolist() == [0] * NUMBER
    assert found.values["a", "rank_accuracy"].tolist() == pytest.approx([area] * NUMBER)
    assert found.values["a", "deletion"].isfinite().all()


def test_metrics_without_a_forward_run_none():
    watched = Watched(networks.make("with relu"))
    names = ["energy", "sparseness", "entropy"]
    assert run(names, {"a": maps()}, classifier=made(watched)).forwards == 0 == watched.seen
    assert planned_forwards(names, 1) == 0


def test_the_network_is_left_in_training_mode():
    network = networks.make("with relu").train()
    run(["deletion"], {"a": maps()}, classifier=made(network))
    assert network.training
    assert all(weight.grad is None for weight in network.parameters())


def test_a_float32_classifier_of_photos():
    classifier = tiny.classifier()
    photos = classifier.inputs([tiny.photo(number) for number in range(2)])
    classes = torch.tensor([0, 1])
    found = measure(classifier, photos, classes, {"a": torch.rand(2, 4, 4)}, ["deletion", "road"])
    assert all(values.isfinite().all() for values in found.values.values())


@pytest.mark.usefixtures("unchecked")
def test_what_is_missing_or_unknown_is_said():
    one = {"a": maps()}
    with pytest.raises(UsageError, match="no metric is called 'deleton'"):
        measure(made(), images(), CLASSES, one, ["deleton"])
    with pytest.raises(UsageError, match="energy compares with the true region: give masks"):
        measure(made(), images(), CLASSES, one, ["energy"])
    with pytest.raises(UsageError, match="masks of .* bring them to the size"):
        measure(made(), images(), CLASSES, one, ["energy"], masks=torch.ones(NUMBER, 2, 2))
    with pytest.raises(UsageError, match="stability explains again: give explainers for a"):
        measure(made(), images(), CLASSES, one, ["stability"])
    with pytest.raises(UsageError, match="no chosen metric has an option 'fillings'"):
        measure(made(), images(), CLASSES, one, ["deletion"], options={"fillings": "blur"})
    with pytest.raises(UsageError, match="no filling is called 'grey'"):
        measure(made(), images(), CLASSES, one, ["deletion"], options={"filling": "grey"})
    with pytest.raises(UsageError, match="no ranking is called 'rows'"):
        measure(made(), images(), CLASSES, one, ["deletion"], options={"ranking": "rows"})
    with pytest.raises(UsageError, match="2 map.s. for 3 image"):
        measure(made(), images(), CLASSES, {"a": maps(number=2)}, ["deletion"])
    with pytest.raises(UsageError, match="2 class.es. for 3 image"):
        measure(made(), images(), CLASSES[:2], one, ["deletion"])
    with pytest.raises(UsageError, match=r"maps of a are .* such as explanation.maps\[:, 0\]"):
        measure(made(), images(), CLASSES, {"a": maps()[:, None]}, ["deletion"])
    with pytest.raises(UsageError, match="classes go from .* use 0 to"):
        measure(made(), images(), CLASSES + 99, one, ["deletion"])
    whole = 255 * (torch.rand(NUMBER, *images().shape[-2:]) > 0.5)
    for masks in (whole, whole.float(), -whole.float(), whole / whole):
        with pytest.raises(UsageError, match=r"masks go from .* such as masks > 0"):
            measure(made(), images(), CLASSES, one, ["energy"], masks=masks)
    with pytest.raises(UsageError, match="'randomisation' is a family of metrics: name one"):
        measure(made(), images(), CLASSES, one, ["randomisation"])
    other = {"a": Explainer(made(), "gradcam", "tapped")}
    with pytest.raises(UsageError, match="of another network"):
        measure(made(), images(), CLASSES, one, ["stability"], explainers=other)
