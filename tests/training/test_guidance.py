import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from mitate import imports
from mitate.auditing.localisation import energy_share
from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.tap import tapped_forward, watching
from mitate.models.classifier import Classifier
from mitate.training import Supervision, fit
from mitate.training.guidance import Guide, surprise
from mitate.training.preparing import prepared
from mitate.training.segmentation import Objective, Taught, with_masks

NAMES = ("blast", "hispa")
QUICK = {
    "model": tiny.MODEL,
    "weights": "none",
    "arguments": tiny.ARGUMENTS,
    "size": 64,
    "epochs": 1,
    "batch_size": 8,
    "lr": 0.01,
    "augment": "flip",
    "show_progress": False,
}

LONGER = {"epochs": 40, "batch_size": 4}
ALONE = Supervision(weight=0.0, guide=True, guide_weight=3.0)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 3, 64, 64, generator=generator)
    levels = torch.full((3, 64, 64), -1, dtype=torch.int16)
    levels[0], levels[0, :40, :30] = 0, 255
    levels[1] = 0
    return inputs, levels, torch.tensor([1, 2, 0])


def test_of_much_evidence_it_is_the_logarithm_of_the_energy_inside():
    generator = torch.Generator().manual_seed(0)
    evidence = torch.randn(4, 3, 5, generator=generator) * 1e4
    masks = torch.rand(4, 30, 40, generator=generator)
    share = energy_share(evidence.relu(), masks)
    assert torch.allclose(surprise(evidence, masks).neg().exp(), share, atol=1e-4)


def test_by_hand():
    evidence = torch.tensor([[[3000.0, 1000.0]], [[0.0, 0.0]], [[-2000.0, -2000.0]]])
    masks = torch.tensor([[[1.0, 0.0]]]).expand(3, -1, -1)
    found = surprise(evidence, masks)
    assert found.tolist() == pytest.approx([-math.log(0.75), math.log(2), math.log(2)], abs=1e-5)


def test_a_map_with_nothing_in_the_mask_still_learns_to_have_something_there():
    """Where the positive part of a map is 0, its gradient is, and nothing would ever grow."""
    evidence = torch.tensor([[[-1.0, 2.0, 1.0]]], requires_grad=True)
    surprise(evidence, torch.tensor([[[1.0, 0.0, 0.0]]])).sum().backward()
    assert evidence.grad[0, 0, 0] < 0 < evidence.grad[0, 0, 1:].min()


def test_it_is_of_the_map_that_an_explainer_makes(batch):
    """Of the images whose mask marks something only: one of three here."""
    inputs, levels, labels = batch
    classifier = tiny.classifier()
    guide = Guide.of(classifier)
    with watching([guide.place]) as tapped:
        forward = tapped(classifier.network(inputs))
    found = guide(forward, levels, labels)
    explanation = Explainer(classifier, "gradcam", signed=True)(inputs, targets=labels.tolist())
    assert explanation.layer == guide.place.name
    evidence = explanation.maps[:1, 0] * explanation.maps[0, 0].numel()
    expected = surprise(evidence, (levels[:1] == 255).float())
    assert float(found.detach()) == pytest.approx(float(expected), abs=1e-4)
    assert guide(forward, torch.full_like(levels, -1), labels) is None
    assert guide(forward, torch.zeros_like(levels), labels) is None


def test_its_gradient_reaches_every_weight_before_the_layer(batch):
    inputs, levels, labels = batch
    classifier = tiny.classifier()
    objective = Objective(Supervision(weight=0, guide=True), Guide.of(classifier))
    taught = Taught(classifier.network, None, objective)
    outputs = taught(inputs)
    objective.guide(outputs.tapped, levels, labels).backward()
    assert all(p.grad is not None and p.grad.any() for p in classifier.network.stages.parameters())


def test_in_validation_it_is_the_same_number_and_nothing_is_recorded(batch):
    inputs, levels, labels = batch
    classifier = tiny.classifier()
    classifier, task = with_masks(classifier, Supervision(guide=True), 0)
    task.model.eval()
    recorded = task.loss(task.model(inputs), levels, labels)
    with torch.no_grad():
        outputs = task.model(inputs)
        assert not torch.is_grad_enabled()
        plain = task.loss(outputs, levels, labels)
    assert torch.isclose(recorded, plain, rtol=1e-4)
    assert not plain.requires_grad


def test_watching_leaves_no_hook_and_no_mode_behind(batch):
    inputs, _, _ = batch
    classifier = tiny.classifier()
    guide = Guide.of(classifier)
    narrow = inputs[:, :1]
    with pytest.raises(RuntimeError, match="channels"), watching([guide.place]):
        classifier.network(narrow)
    with torch.no_grad():
        with watching([guide.place]):
            classifier.network(inputs)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert not any(module._forward_hooks for module in classifier.network.modules())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos in their class's colour, their right halves in stripes; masks of these halves."""
    folder = tmp_path_factory.mktemp("data")
    tiny.photos(folder / "images", dict.fromkeys(NAMES, 12))
    half = np.zeros((30, 40), np.uint8)
    half[:, 20:] = 2
    for photo in (folder / "images").glob("*/*.png"):
        pixels = np.array(Image.open(photo))
        pixels[::4, 20:] = pixels[1::4, 20:] = 0
        Image.fromarray(pixels).save(photo)
        mask = folder / "masks" / photo.parent.name / photo.name
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(half).save(mask)
    return folder


def test_guided_maps_move_into_the_masks(folder, tmp_path):
    guided = {"masks": folder / "masks", "mask_value": 2, "supervision": ALONE}
    found = {
        name: fit(folder / "images", tmp_path / name, **{**QUICK, **LONGER, **more})
        for name, more in (("plain", {}), ("guided", guided))
    }
    before, after = (share_of(done.classifier, folder) for done in found.values())
    assert after > before + 0.05
    assert found["guided"].scores.accuracy >= 0.8


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_without_a_segmentation_there_is_no_decoder(folder, tmp_path, weight):
    supervision = replace(ALONE, weight=weight)
    more = {"masks": folder / "masks", "mask_value": 2, "supervision": supervision}
    done = fit(folder / "images", tmp_path, **QUICK, **more)
    assert (done.classifier.decoder is None) == (weight == 0)
    assert (done.scores.segmentation is None) == (weight == 0)
    assert (done.history[-1].dice is None) == (weight == 0)
    loaded = Classifier.load(tmp_path)
    assert loaded.provenance["training"]["masks"]["guide"] is True
    assert (loaded.decoder is None) == (weight == 0)


def share_of(classifier, folder):
    """Mean energy of the true class's Grad-CAM in the right half, on the validation photos."""
    records = prepared(folder / "images").split("valid").records
    explanation = Explainer(classifier)(
        [record.path for record in records],
        targets="label",
        labels=[record.label for record in records],
    )
    masks = torch.zeros(len(records), 64, 64)
    masks[:, :, 32:] = 1
    return float(energy_share(explanation.maps[:, 0], masks).nanmean())


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_other_backbones_can_be_guided(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = imports.timm().create_model(name, num_classes=3)
    classifier = Classifier.from_module(network.eval(), classes=["a", "b", "c"])
    classifier, task = with_masks(classifier, Supervision(guide=True), 0)
    height, width = classifier.preprocessing.size
    levels = torch.zeros(2, height, width, dtype=torch.int16)
    levels[:, : height // 2] = 255
    inputs = torch.randn(2, 3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        task.model.train()
        loss = task.loss(task.model(inputs), levels, torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


class TestDifferentiableMaps:
    def test_they_are_the_same_maps(self):
        classifier = tiny.classifier()
        inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        for method in ("gradcam", "layercam", "hirescam"):
            plain = Explainer(classifier, method)(inputs)
            live = Explainer(classifier, method, differentiable=True)(inputs)
            assert live.maps.requires_grad
            assert not plain.maps.requires_grad
            assert torch.allclose(live.maps, plain.maps, atol=1e-6)
            assert live.flags == plain.flags

    @pytest.mark.parametrize("method", ["gradcam", "layercam", "hirescam", "xgradcam"])
    def test_gradients_to_the_weights_are_those_of_finite_differences(self, method):
        classifier = tiny.classifier()
        network = classifier.network.double()
        inputs = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
        explainer = Explainer(classifier, method, "stages.2", differentiable=True)
        weight = network.stages[1].blocks[0].conv_dw.weight

        def total():
            return explainer(inputs, targets=[1]).maps.square().sum()

        (found,) = torch.autograd.grad(total(), weight)
        place, step = np.unravel_index(int(found.abs().argmax()), found.shape), 1e-6
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * step
            values.append(float(total().detach()))
            with torch.no_grad():
                weight[place] -= sign * step
        expected = (values[0] - values[1]) / (2 * step)
        assert float(found[place]) == pytest.approx(expected, rel=1e-4)

    def test_the_network_is_left_as_it_was(self):
        classifier = tiny.classifier()
        classifier.network.train()
        before = {name: v.clone() for name, v in classifier.network.state_dict().items()}
        inputs = torch.randn(2, 3, 64, 64)
        maps = Explainer(classifier, differentiable=True)(inputs).maps
        assert all(p.grad is None for p in classifier.network.parameters())
        maps.sum().backward()
        assert classifier.network.training
        assert classifier.network.stem[0].weight.grad.any()
        after = classifier.network.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert not any(module._forward_hooks for module in classifier.network.modules())

    def test_plain_taps_still_record_nothing_before_the_layer(self):
        classifier = tiny.classifier()
        guide = Guide.of(classifier)
        forward = tapped_forward(
            classifier.network,
            torch.randn(1, 3, 64, 64),
            [guide.place],
            read=classifier.read,
            gradients=True,
        )
        assert forward.activations[0].is_leaf
        (gradient,) = forward.gradients(forward.logits[:, :1])
        assert not gradient.requires_grad

    @pytest.mark.parametrize(
        ("method", "more"),
        [("scorecam", {}), ("cam", {}), ("random", {}), ("gradcam", {"augment": True})],
    )
    def test_others_are_refused(self, method, more):
        with pytest.raises(UsageError, match="no maps that can be differentiated: use"):
            Explainer(tiny.classifier(), method, differentiable=True, **more)
