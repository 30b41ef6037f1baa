from math import nan
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mitate
from mitate import DetectionTarget, Explainer, SegmentationTarget, SimilarityTarget
from mitate.errors import TargetError, UsageError
from mitate.explain.methods import METHODS
from mitate.explain.outputs import named_functions, together
from mitate.models.classifier import Classifier
from oracles import networks

SIZE = (16, 24)
# The head of classes is not that of functions; attention needs a network that has it.
ELSEWHERE = {"cam", "guidedgradcam"} | {
    name for name, made in METHODS.items() if made.family == "attention"
}


def first(output: Tensor) -> Tensor:
    return output[:, 0]


def second(output: Tensor) -> Tensor:
    return output[:, 1]


class Dense(nn.Module):
    """A segmentation whose logits at a place depend on that place alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tapped = nn.Conv2d(3, 6, 1)
        self.classes = nn.Conv2d(6, 4, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.classes(self.tapped(images).relu())}


class Detector(nn.Module):
    """Finds two boxes an image, in the manner of torchvision's detectors."""

    boxes = ((0.0, 0.0, 8.0, 8.0), (12.0, 4.0, 20.0, 12.0))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tapped = nn.Conv2d(3, 5, 1)

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        strength = self.tapped(images).relu().sum(1)
        return [self.found(plane) for plane in strength]

    def found(self, plane: Tensor) -> dict[str, Tensor]:
        scores = [
            plane[int(y1) : int(y2), int(x1) : int(x2)].mean().sigmoid()
            for x1, y1, x2, y2 in self.boxes
        ]
        boxes, labels = torch.tensor(self.boxes).to(plane), torch.tensor([1, 2])
        return {"boxes": boxes, "labels": labels, "scores": torch.stack(scores)}


def explained(network: nn.Module, targets: object, method: str = "gradcam") -> mitate.Explanation:
    classifier = Classifier.from_module(network, classes=["-"])
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    return Explainer(classifier, method, "tapped", show_progress=False)(images, targets=targets)


@pytest.mark.parametrize("method", ["gradcam", "shapleycam", "smoothgradcampp", "ablationcam"])
def test_a_function_that_reads_a_class_is_that_class(method: str) -> None:
    classifier = Classifier.from_module(networks.make("with relu"))
    images = networks.make_images(3)
    explainer = Explainer(classifier, method, "tapped")
    of_classes = explainer(images, targets=[[1, 0]] * 3)
    of_functions = explainer(images, targets=[second, first])
    torch.testing.assert_close(of_functions.maps, of_classes.maps)
    assert of_functions.class_names == ("second", "first")
    torch.testing.assert_close(of_functions.probabilities, of_classes.logits[:, [1, 0]])
    assert of_functions.task == "regression"
    assert explainer(images, targets=second).maps.shape[1] == 1


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ELSEWHERE])
def test_every_method_takes_functions(method: str) -> None:
    explanation = Explainer(
        Classifier.from_module(networks.make("pooled")), method, "tapped", show_progress=False
    )(networks.make_images(2), targets={"less": lambda output: -output[:, 0], "more": second})
    assert explanation.class_names == ("less", "more")
    assert explanation.maps.shape[:2] == (2, 2)
    assert explanation.maps.isfinite().all()


def test_functions_are_found_by_their_own_layer() -> None:
    """A function may read what the class scores do not depend on."""
    network = networks.make("several outputs")
    explainer = Explainer(Classifier.from_module(network, classes=5))
    images = networks.make_images(2)
    ours = explainer(images, targets=lambda output: output[0][:, 1])
    torch.testing.assert_close(ours.maps, explainer(images, targets=[1, 1]).maps)


def test_similarity() -> None:
    embedding = torch.tensor([3.0, 0.0, 4.0])
    outputs = torch.tensor([[3.0, 0, 4], [0, 2, 0], [-3, 0, -4]])
    scores = SimilarityTarget(embedding)(outputs)
    torch.testing.assert_close(scores, torch.tensor([1.0, 0, -1]))
    held = SimpleNamespace(pooler_output=outputs)
    assert torch.equal(SimilarityTarget(embedding)(held), scores)
    with pytest.raises(TargetError, match="3 features an image and the embedding has 2"):
        SimilarityTarget(torch.ones(2))(outputs)
    with pytest.raises(TargetError, match="write a function"):
        SimilarityTarget(embedding)(SimpleNamespace(words=outputs))


def test_a_segmentation_is_explained_within_its_mask() -> None:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[4:9, 10:20] = True
    explanation = explained(Dense(), SegmentationTarget(2, mask), "hirescam")
    assert explanation.maps[:, 0, mask].any()
    assert not explanation.maps[:, 0, ~mask].any()
    everywhere = explained(Dense(), SegmentationTarget(2), "hirescam")
    assert everywhere.maps[:, 0, ~mask].sum() > 0


@pytest.mark.parametrize(
    ("target", "output", "said"),
    [
        (SegmentationTarget(4), torch.zeros(1, 4, 2, 2), "class 4 of a segmentation"),
        (SegmentationTarget(0), torch.zeros(1, 4), r"gives \(1, 4\)"),
        (SegmentationTarget(0, torch.ones(3, 2).bool()), torch.zeros(1, 4, 2, 2), "of that size"),
        (DetectionTarget((0, 0, 1, 1), 1), torch.zeros(1, 4), "boxes, labels and scores"),
        (DetectionTarget((0, 0, 1, 1), 1), [{"boxes": torch.zeros(0, 4)}], "boxes, labels"),
    ],
)
def test_outputs_that_do_not_fit(target, output, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        target(output)


def test_a_mask_of_nothing() -> None:
    with pytest.raises(TargetError, match="has nothing in it: mark where"):
        SegmentationTarget(0, np.zeros((2, 2)))


def test_a_large_mask_in_half_precision() -> None:
    planes = torch.full((1, 2, 512, 512), 2.0, dtype=torch.float16)
    assert SegmentationTarget(1, torch.ones(512, 512))(planes).tolist() == [2.0]


def test_a_mask_can_be_compiled() -> None:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[:5, 3:9] = True
    classifier = Classifier.from_module(Dense(), classes=["-"])
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    target = SegmentationTarget(2, mask)
    compiled = mitate.compile(classifier, "gradcam", "tapped")(images, targets=[target])
    plain = Explainer(classifier, "gradcam", "tapped")(images, targets=[target])
    assert plain.maps.any()
    torch.testing.assert_close(compiled.maps, plain.maps)


def test_cam_has_no_weights_of_a_function() -> None:
    network = Classifier.from_module(networks.make("pooled"))
    with pytest.raises(UsageError, match="reads the weights of classes, and a function has none"):
        Explainer(network, "cam", "tapped")(networks.make_images(1), targets=second)


def test_detections() -> None:
    found = [
        {
            "boxes": torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10]]),
            "labels": torch.tensor([1, 1, 2]),
            "scores": torch.tensor([0.5, 0.9, 1.0]),
        },
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)},
    ]
    scores = DetectionTarget((0, 0, 10, 10), 1)(found)
    torch.testing.assert_close(scores, torch.tensor([0.5, 0.0]))
    halves = DetectionTarget((5, 0, 15, 10), 2)(found)
    torch.testing.assert_close(halves, torch.tensor([50 / 150, 0.0]))


def test_a_detection_is_explained_by_its_own_place() -> None:
    explanation = explained(Detector(), DetectionTarget(Detector.boxes[1], 2), "hirescam")
    inside = explanation.maps[:, 0, 4:12, 12:20].clone()
    explanation.maps[:, 0, 4:12, 12:20] = 0
    assert inside.any()
    assert not explanation.maps.any()


def test_nothing_found_is_flagged() -> None:
    explanation = explained(Detector(), DetectionTarget(Detector.boxes[1], 7))
    assert {flag.kind for flag in explanation.flags} == {"zero"}


def test_names() -> None:
    target = SegmentationTarget(1)
    assert named_functions([first, second]) == {"first": first, "second": second}
    assert list(named_functions([target, target]) or ()) == [
        "SegmentationTarget 1",
        "SegmentationTarget 2",
    ]
    assert named_functions([1, 2]) is named_functions("label") is named_functions(None) is None
    for wrong in ({"a": 1}, {}, [first, 1]):
        with pytest.raises(TargetError):
            named_functions(wrong)


def test_a_function_must_give_a_score_an_image() -> None:
    with pytest.raises(TargetError, match=r"'whole' gives \(2, 5\)"):
        together({"whole": lambda output: output})(torch.zeros(2, 5))
    with pytest.raises(TargetError, match="gives int"):
        together({"number": lambda output: 1})(torch.zeros(2, 5))


def test_scores_of_another_number_than_the_images_are_told() -> None:
    """As a target of one image's output gives them."""
    classifier = Classifier.from_module(networks.make("pooled"))
    for method in ("hirescam", "scorecam", "loupe"):
        explainer = Explainer(classifier, method, "tapped", show_progress=False)
        with pytest.raises(TargetError, match=r"scores for a batch of 2: a target is"):
            explainer(networks.make_images(2), targets=lambda logits: logits[0])
    with pytest.raises(TargetError, match="targets give 2, 5 scores"):
        together({"a": lambda output: output[:, 0], "b": lambda output: output[0]})(
            torch.zeros(2, 5)
        )


@pytest.mark.parametrize("kind", [np.float64, np.uint8, bool])
def test_masks_of_any_kind_of_number(kind: type) -> None:
    planes = torch.randn(2, 3, 4, 4)
    mask = np.zeros((4, 4), kind)
    mask[1:3] = 1
    expected = planes[:, 1, 1:3].mean((-2, -1))
    torch.testing.assert_close(SegmentationTarget(1, mask)(planes), expected)
    torch.testing.assert_close(SegmentationTarget(1, torch.from_numpy(mask))(planes), expected)


def test_an_embedding_as_an_array() -> None:
    outputs = torch.randn(2, 5)
    expected = SimilarityTarget(outputs[0])(outputs)
    torch.testing.assert_close(SimilarityTarget(outputs[0].numpy())(outputs), expected)


def test_labels_mean_nothing_beside_functions() -> None:
    explainer = Explainer(Classifier.from_module(networks.make("pooled")), layer="tapped")
    with pytest.raises(TargetError, match="labels and against are of classes"):
        explainer(networks.make_images(2), targets=first, labels=[0, 1])


def test_scorecam_of_a_function_takes_its_rise_above_an_empty_image() -> None:
    """A constant that is added to a value changes no map (eq. 6 of the paper)."""
    explainer = Explainer(
        Classifier.from_module(networks.make("with relu")),
        "scorecam",
        "tapped",
        show_progress=False,
    )
    images = networks.make_images(2)
    plain = explainer(images, targets=first)
    lifted = explainer(images, targets=lambda output: output[:, 0] + 100)
    torch.testing.assert_close(lifted.maps, plain.maps)


@pytest.mark.parametrize("box", [(50, 50, 20, 20), (0, 0, 0, 0), (5, 5, 5, 9), (0, 0, 1, nan)])
def test_a_box_with_nothing_in_it_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(TargetError, match="has nothing in it: give x1, y1, x2, y2 in pixels"):
        DetectionTarget(box, 1)
