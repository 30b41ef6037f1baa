"""What runs on a second device; tests/test_devices.py runs this in a process of its own."""

import copy
from dataclasses import replace

import pytest
import torch

import mitate
import second
import tiny
from mitate import Classifier, Explainer, imports
from mitate.cli.app import run
from mitate.data.dataset import read_dataset
from mitate.errors import MitateError, UsageError
from mitate.explain.methods import METHODS
from mitate.jobs.explaining import explain_photos
from mitate.jobs.gallery import build_report
from mitate.jobs.photos import gather, open_masks
from mitate.models.devices import find_device
from mitate.training.pseudo import make_masks

# Tracing does not see through the tensors of this device, and mitate says so.
pytestmark = pytest.mark.filterwarnings("ignore:the network cannot be traced")
LONG = pytest.mark.long
FEWER = {
    "rise": {"samples": 12},
    "smoothgrad": {"samples": 3},
    "integratedgradients": {"steps": 4},
    "loupe": {"steps": 6},
    "scorecam": {"tolerance": 0.05},
}


@pytest.fixture(autouse=True)
def device():
    with second.device() as device:
        yield device


@pytest.fixture(
    scope="module",
    params=[
        ("test_convnext", {}, 64),
        pytest.param(("test_efficientnet", {}, 64), marks=LONG),
        pytest.param(("test_vit", {"img_size": 96}, 96), marks=LONG),
    ],
    ids=lambda given: given[0],
)
def networks(request):
    """One network, and its twin for the second device."""
    name, settings, size = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = imports.timm().create_model(name, num_classes=5, **settings).eval()
        return network, copy.deepcopy(network), torch.randn(2, 3, size, size)


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_those_of_the_cpu(networks, device, method):
    network, twin, images = networks
    settings = {"show_progress": False, **FEWER.get(method, {})}
    try:
        expected = Explainer(network, method, **settings)(images, 2)
    except MitateError:
        pytest.skip("not for this network")
    found = Explainer(twin.to(device), method, **settings)(images.to(device), 2)
    for name in ("maps", "logits", "probabilities"):
        tensor = getattr(found, name)
        assert tensor.device == device
        own = getattr(expected, name)
        torch.testing.assert_close(tensor.cpu(), own, rtol=1e-4, atol=1e-3 * float(own.abs().max()))
    assert found.resize().device == device
    assert len(found.overlay()) == 2


class TestTargets:
    @pytest.fixture
    def images(self, device):
        return torch.rand(2, 3, tiny.SIZE, tiny.SIZE).to(device)

    @pytest.fixture
    def explainer(self, device):
        return Explainer(tiny.classifier().to(device))

    @pytest.mark.parametrize("targets", [[0, 1], [[0, 1], [1, 2]], "label", torch.tensor([1, 2])])
    def test_classes(self, explainer, images, device, targets):
        labels = [1, 2] if isinstance(targets, str) else None
        assert explainer(images, targets=targets, labels=labels).maps.device == device

    def test_one_class_against_another(self, device, images):
        explainer = Explainer(tiny.classifier().to(device), against="nearest", augment=True)
        assert explainer(images, 1).maps.device == device

    def test_layers_together(self, device, images):
        explainer = Explainer(tiny.classifier().to(device), "layercam", "stages.1 + stages.3")
        assert explainer(images, 1).maps.device == device

    def test_kept(self, explainer, images, tmp_path):
        path = tmp_path / "a.npz"
        explained = explainer(images, 1)
        explained.save(path)
        torch.testing.assert_close(mitate.Explanation.load(path).maps, explained.maps.cpu())
        explained.plot()


class TestPhotos:
    @pytest.fixture
    def here(self):
        return tiny.classifier()

    @pytest.fixture
    def there(self, device):
        return tiny.classifier().to(device)

    @pytest.fixture
    def marked(self, tmp_path):
        return tiny.marked_photos(tmp_path / "marked", dict.fromkeys(tiny.NAMES, 4))

    def test_explain(self, here, there, marked, tmp_path):
        shares = []
        for place, classifier in enumerate((here, there)):
            done = explain_photos(
                classifier,
                gather([marked / "images"], tiny.NAMES).records,
                tmp_path / str(place),
                methods=("gradcam", "glance", "rise"),
                options={"samples": 12},
                masks=open_masks(marked / "masks", marked / "photos"),
                mask_value=2,
                shown=False,
            )
            shares.append([one.energy.mean for one in done.comparison.places()])
        assert shares[1] == pytest.approx(shares[0], abs=1e-4)

    @LONG
    def test_report_and_masks(self, there, marked, tmp_path):
        records = gather([marked / "images"], tiny.NAMES).records
        known = {"masks": open_masks(marked / "masks", marked / "photos"), "shown": False}
        report, failures = build_report(there, records, mask_value=2, **known)
        assert report
        assert not failures
        made = make_masks(
            Explainer(there, "glance"), read_dataset(marked / "images"), tmp_path, value=2, **known
        )
        assert made.number == len(records)

    @LONG
    def test_audit_and_compare(self, here, there, marked):
        settings = {"masks": marked / "masks", "mask_value": 2, "limit": 9}
        audits = [
            mitate.audit(classifier, marked / "images", reasons=9, **settings)
            for classifier in (here, there)
        ]
        names = [[one.name for one in audit.entrants] for audit in audits]
        assert names[0] == names[1]
        for name in names[0]:
            for metric in ("energy", "early_deletion"):
                found, expected = (audit.values.of(name, metric) for audit in reversed(audits))
                assert found == pytest.approx(expected, abs=1e-3, nan_ok=True)
        other = tiny.classifier(seed=1)
        assert mitate.compare(there, other, marked / "images", **settings).audits

    def test_the_command_line(self, here, marked, tmp_path, device, capsys):
        here.save(tmp_path / "classifier")
        words = ["explain", tmp_path / "classifier", marked / "images", "-o", tmp_path / "out"]
        assert run([*map(str, words), "--device", str(device)]) == 0
        assert (tmp_path / "out" / "predictions.csv").is_file()
        assert run([*map(str, words), "--device", "seventh"]) == 2
        assert "device 'seventh' cannot be used here" in capsys.readouterr().err

    def test_saved_and_found(self, there, tmp_path, device):
        assert there.device == device == find_device(str(device))
        saved = Classifier.load(there.save(tmp_path / "saved").folder)
        assert saved.device == torch.device("cpu")
        images = torch.rand(1, 3, tiny.SIZE, tiny.SIZE)
        torch.testing.assert_close(there.logits(images).cpu(), saved.logits(images))


def test_tensors_of_two_devices_are_refused(device):
    """The device itself: else nothing here could fail."""
    there, here = torch.ones(3, device=device), torch.ones(3)
    with pytest.raises(RuntimeError, match="same device"):
        there + here
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device=device, generator=torch.Generator())
    with pytest.raises((TypeError, RuntimeError), match="numpy"):
        there.numpy()
    with pytest.raises(UsageError, match="cannot be used here"):
        find_device("meta")
    assert replace(tiny.classifier()).to(device).device == device
