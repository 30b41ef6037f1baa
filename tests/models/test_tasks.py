import pytest
import torch
from torch import nn

import tiny
from mitate import Explainer, Explanation
from mitate.errors import MitateWarning, UsageError
from mitate.jobs.gallery import build_report
from mitate.models.classifier import Classifier
from mitate.models.tasks import check_task, likelihood, told
from oracles import networks

LOGITS = torch.tensor([[0.0, 2.0, -1.0], [3.0, 3.0, 0.0]])


def test_likelihoods() -> None:
    assert torch.equal(likelihood("single-label", LOGITS), LOGITS.softmax(-1))
    assert torch.equal(likelihood("multi-label", LOGITS), LOGITS.sigmoid())
    assert torch.equal(likelihood("regression", LOGITS), LOGITS)
    assert told("multi-label", 0.5) == "50.0 %"
    assert told("regression", -12.3456) == "-12.35"


def test_what_is_no_task() -> None:
    check_task("multi-label")
    with pytest.raises(UsageError, match="task 'multilabel': it is one of single-label, multi"):
        check_task("multilabel")


def test_several_classes_can_be_true(tmp_path) -> None:
    network = tiny.classifier().network
    classifier = Classifier.from_module(network, classes=tiny.NAMES, task="multi-label")
    images = torch.randn(2, 3, 64, 64)
    explanation = Explainer(classifier, "scorecam", show_progress=False)(images)
    expected = explanation.logits.sigmoid().gather(1, explanation.classes)
    torch.testing.assert_close(explanation.probabilities, expected)
    exclusive = Explainer(Classifier.from_module(network), "scorecam", show_progress=False)(images)
    assert not torch.allclose(exclusive.maps, explanation.maps)
    again = Explanation.load(explanation.save(tmp_path / "a.npz"))
    torch.testing.assert_close(again.probabilities, expected)


def test_a_value_is_explained(tmp_path) -> None:
    class Yield(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(3, 4, 3, stride=4)
            self.head = nn.Linear(4, 1)

        def forward(self, images):
            return 40 + self.head(self.features(images).relu().mean((-2, -1)))[:, 0]

    torch.manual_seed(0)
    classifier = Classifier.from_module(Yield(), classes=["tonnes"], task="regression")
    explanation = Explainer(classifier, layer="features")(torch.randn(2, 3, 32, 32))
    assert explanation.maps.shape == (2, 1, 8, 8)
    torch.testing.assert_close(explanation.probabilities, explanation.logits)
    assert 30 < explanation.probabilities.min() < 50
    with pytest.raises(UsageError, match="mitate explain"):
        build_report(classifier, [])


def test_the_task_is_kept(tmp_path) -> None:
    classifier = tiny.classifier()
    assert classifier.save(tmp_path / "a").task == "single-label"
    several = Classifier(
        classifier.network,
        classifier.class_names,
        classifier.preprocessing,
        recipe=classifier.recipe,
        task="multi-label",
    )
    several.save(tmp_path / "b")
    assert Classifier.load(tmp_path / "a").task == "single-label"
    assert Classifier.load(tmp_path / "b").task == "multi-label"


@pytest.mark.parametrize(
    ("problem", "task"),
    [
        (None, "single-label"),
        ("single_label_classification", "single-label"),
        ("multi_label_classification", "multi-label"),
        ("regression", "regression"),
    ],
)
def test_a_hugging_face_network_tells_its_task(hf_network, hf_folder, problem, task) -> None:
    pytest.importorskip("transformers")
    assert Classifier.from_module(hf_network("vit", problem_type=problem)).task == task
    folder = hf_folder("vit", problem_type=problem)
    assert Classifier.load(f"hf:{folder}").task == task


def test_one_label_of_hugging_face_is_a_value(hf_network, hf_folder) -> None:
    pytest.importorskip("transformers")
    assert Classifier.from_module(hf_network("vit", num_labels=1)).task == "regression"
    assert Classifier.load(f"hf:{hf_folder('vit', num_labels=1)}").task == "regression"


def test_one_output_is_the_log_odds_of_its_class(tmp_path) -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    network.head = nn.Linear(network.head.in_features, 1).double()
    classifier = Classifier.from_module(network, classes=["rust"])
    assert classifier.task == "multi-label"
    with pytest.warns(MitateWarning, match="read as that class's own log-odds"):
        explanation = Explainer(classifier)(images)
    Explainer(classifier)(images, targets=lambda output: output[:, 0])  # which says what it means
    torch.testing.assert_close(explanation.probabilities, explanation.logits.sigmoid())
    assert Classifier.from_module(network, classes=1, task="multi-label").task == "multi-label"
    assert Classifier.from_module(network, classes=1, task="regression").task == "regression"


def test_one_output_of_two_classes() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    network.head = nn.Linear(network.head.in_features, 1).double()
    names = ["good", "bad"]
    with pytest.raises(UsageError, match="gives 1 score, and there are 2 classes: name the one"):
        Explainer(Classifier.from_module(network, classes=names))(images)

    def both(logit):
        return torch.cat([torch.zeros_like(logit), logit], dim=1)

    explanation = Explainer(Classifier.from_module(network, classes=names, output=both))(images)
    alone = Explainer(Classifier.from_module(network, classes=1, task="multi-label"))(images)
    bad = explanation.probabilities.gather(1, (explanation.classes == 1).long().argmax(1)[:, None])
    torch.testing.assert_close(bad, alone.probabilities)
