"""``auto`` in the place of a method."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import tiny
from mitate.auditing.files import BestFile
from mitate.errors import MitateWarning, UsageError
from mitate.explain.choice import FEWEST, choose
from mitate.explain.explainer import Explainer
from mitate.explain.methods import METHODS
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing
from mitate.models.weights import digest_of_network
from oracles import networks
from oracles.staged import Closed, Rounded, stages

SIZE = (32, 64)
LOUPE = METHODS["loupe"].cost.of(0, 1, options=METHODS["loupe"].options)


def made(network: nn.Module) -> Classifier:
    return Classifier.from_module(
        network.float(), classes=networks.CLASSES, preprocessing=Preprocessing(size=SIZE)
    )


def images(number: int = 2) -> Tensor:
    return networks.make_images(number, size=SIZE).float()


def one_grid() -> nn.Module:
    """A network whose only grid is its last."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 16, stride=16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )


class TestWithoutABudget:
    def test_the_cheap_map_of_two_layers(self) -> None:
        found = Explainer(made(stages()), "auto")(images(), top_k=1)
        assert found.method == "glance"
        assert found.layer == "fine + coarse"
        assert found.cost == 3

    def test_gradcam_where_no_layer_is_finer(self) -> None:
        assert Explainer(made(one_grid()), "auto")(images(), top_k=1).method == "gradcam"

    def test_layers_that_are_named_decide(self) -> None:
        classifier = made(stages())
        assert choose(classifier, "auto", "coarse").method.name == "gradcam"
        assert choose(classifier, "auto", ["coarse", "fine"]).method.name == "glance"

    def test_it_compares_classes(self) -> None:
        found = Explainer(made(stages()), "auto", against=1)(images(), targets=[0, 0])
        assert found.method == "glance"
        assert found.options["against"] == 1


class TestABudget:
    @pytest.mark.parametrize(
        ("budget", "method"),
        [(3, "glance"), (3 + 3 * FEWEST - 1, "glance"), (3 + 3 * FEWEST, "loupe"), (1e9, "loupe")],
    )
    def test_is_kept(self, budget: float, method: str) -> None:
        explainer = Explainer(made(stages()), "auto", budget=budget, show_progress=False)
        assert explainer.method.name == method
        assert explainer.method.cost.of(0, 1, options=explainer.options) <= min(budget, LOUPE)

    def test_buys_steps_and_what_was_spent_is_told(self) -> None:
        found = Explainer(made(stages(20.0)), "auto", budget=66, show_progress=False)(
            images(1), top_k=2
        )
        assert found.method == "loupe"
        assert found.options["steps"] == 21
        assert found.cost <= 1 + 2 * 65

    @pytest.mark.parametrize(("budget", "method"), [(100, "glance"), (1000, "occlusion")])
    @pytest.mark.parametrize("without", [Closed, Rounded])
    def test_buys_occlusion_where_the_image_gets_no_gradient(
        self, budget: float, method: str, without: Callable[[nn.Module], nn.Module]
    ) -> None:
        assert choose(made(without(stages())), "auto", budget=budget).method.name == method

    def test_buys_loupe_where_the_outputs_add_up_to_one(self) -> None:
        network = nn.Sequential(stages(), nn.Softmax(1))
        assert choose(made(network), "auto", budget=1e3).method.name == "loupe"

    def test_buys_no_comparison_that_loupe_could_not_make(self) -> None:
        assert choose(made(stages()), "auto", budget=1e3, compares=True).method.name == "glance"

    def test_is_refused_where_it_means_nothing(self) -> None:
        with pytest.raises(UsageError, match="budget is for the method auto"):
            Explainer(made(stages()), "loupe", budget=100)
        with pytest.raises(UsageError, match="budget 2: use 3 forwards or more"):
            Explainer(made(stages()), "auto", budget=2)


class TestWhatAnAuditFound:
    @pytest.fixture
    def remember(self, tmp_path):
        classifier = replace(tiny.classifier(), folder=tmp_path)

        def remember(method: str, *, trusted: bool = True, digest: str = "") -> Classifier:
            best = BestFile(
                weights_sha256=digest or digest_of_network(classifier.network),
                images_sha256="0" * 64,
                images=12,
                method=method,
                layer="stages.2",
                metric="deletion",
                trusted=trusted,
                reason="no better than a control",
            )
            (tmp_path / "best.json").write_text(best.model_dump_json(), encoding="utf-8")
            return classifier

        return remember

    def test_is_taken(self, remember) -> None:
        found = Explainer(remember("layercam"), "auto")(torch.rand(1, 3, 64, 64))
        assert (found.method, found.layer) == ("layercam", "stages.2")

    def test_is_not_taken_at_other_layers_or_for_other_weights(self, remember) -> None:
        assert choose(remember("layercam"), "auto", "stages.1").method.name == "gradcam"
        assert choose(remember("layercam", digest="0" * 64), "auto").method.name == "glance"

    @pytest.mark.parametrize(
        ("method", "budget", "expected"),
        [
            ("layercam", 3, "layercam"),
            ("shapleycam", 3, "glance"),
            ("scorecam", 3, "glance"),  # its price follows the channels of the layer
            ("scorecam", None, "scorecam"),
        ],
    )
    def test_is_taken_within_the_budget(self, remember, method, budget, expected) -> None:
        assert choose(remember(method), "auto", budget=budget).method.name == expected

    def test_is_left_where_it_cannot_compare(self, remember) -> None:
        assert choose(remember("scorecam"), "auto", compares=True).method.name == "glance"

    def test_warns_where_it_is_no_better_than_a_control(self, remember) -> None:
        with pytest.warns(MitateWarning, match="no better than a control"):
            choose(remember("layercam", trusted=False), "auto")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            choose(remember("layercam"), "auto")


def test_a_network_that_takes_no_such_images_says_so() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 62, 5))
    wrong = Classifier.from_module(network, classes=5, preprocessing=Preprocessing(size=(8, 8)))
    with pytest.raises(UsageError, match="takes no images of 8x8 px"):
        Explainer(wrong, "auto")
