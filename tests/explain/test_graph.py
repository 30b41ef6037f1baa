"""A compiled explainer gives what the explainer gives, from a graph of plain operations."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.fx import GraphModule

import mitate
from mitate import imports
from mitate.errors import MitateWarning, TargetError, UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation
from mitate.explain.graph import Compiled
from mitate.explain.methods import METHODS, concepts
from mitate.models.classifier import Classifier
from mitate.models.preprocessing import Preprocessing
from oracles import networks

TRACED = [name for name, method in METHODS.items() if not method.untraced and not method.iterates]
UNTRACED = [name for name in METHODS if name not in TRACED]
OF_GRADIENTS = [name for name in TRACED if "gradients" in METHODS[name].needs]
NOT_CORE = {  # of the methods that take principal components or factors
    "aten._linalg_eigh.default",
    "aten._linalg_svd.default",
    "aten.linalg_vector_norm.default",
    "aten.sort.stable",
}
GIVEN = {"rtol": 0, "atol": 1e-10}


def classifier(name: str = "with relu", **more) -> Classifier:
    return Classifier.from_module(networks.make(name), classes=networks.CLASSES, **more)


def graphs(compiled: Compiled) -> list[GraphModule]:
    """Its graphs, and those for functions as targets."""
    every = [compiled, *compiled._aimed.values()]
    return [traced.run for each in every for traced in each._graphs.made.values() if traced]


def operations(graph: GraphModule) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


def assert_equal(found: Explanation, wanted: Explanation, tolerance: float = 1e-10) -> None:
    assert torch.equal(found.classes, wanted.classes)
    for name in ("maps", "logits"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        reach = tolerance * theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=reach)
    for name in ("method", "layer", "options", "cost", "flags", "input_size", "fusion", "task"):
        assert getattr(found, name) == getattr(wanted, name), name


def assert_compiles(
    model: object, images: Tensor, *given, call: dict | None = None, tolerance=1e-10, **options
) -> Compiled:
    """Twice the explainer's result: of the batch that is traced, and of another one."""
    compiled = mitate.compile(model, *given, **options)
    explainer = Explainer(model, *given, **options)
    for batch in (images, images.flip(0) * 0.8):
        assert_equal(compiled(batch, **(call or {})), explainer(batch, **(call or {})), tolerance)
    assert graphs(compiled)
    return compiled


@pytest.mark.parametrize("method", TRACED)
@pytest.mark.parametrize("name", ["with relu in place", "channels last", "tokens"])
def test_every_method_whose_evidence_is_traceable(
    method: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concepts, "SWEEPS", 3)  # each is unrolled into the graph
    network = networks.make("pooled" if "head" in METHODS[method].needs else name)
    model = Classifier.from_module(network, classes=networks.CLASSES)
    (graph,) = graphs(assert_compiles(model, networks.make_images(2), method, network.layer))
    calls = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    left = {str(op) for op in calls if torch.Tag.core not in getattr(op, "tags", [torch.Tag.core])}
    assert left <= NOT_CORE
    assert not [op for op in operations(graph) if "backward" in op or "detach" in op]


@pytest.mark.parametrize("name", networks.MAKERS)
def test_every_kind_of_network(name: str) -> None:
    network = networks.make(name)
    model = Classifier.from_module(network, classes=networks.CLASSES)
    assert_compiles(model, networks.make_images(3), "layercam", network.layer)


SMALL = {
    "convnext_atto": ({"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}, "stages.2"),
    "resnet10t": ({}, "layer3"),
    "mobilenetv3_small_050": ({}, "blocks.3"),
    "vit_tiny_patch16_224": ({"img_size": 64, "depth": 2, "embed_dim": 24, "num_heads": 2}, None),
    "vit_base_patch16_rope_reg1_gap_256": (  # a slice without an end behind the layer
        {"img_size": 64, "depth": 2, "embed_dim": 24, "num_heads": 2},
        None,
    ),
    "swin_tiny_patch4_window7_224": (
        {"img_size": 64, "window_size": 2, "embed_dim": 8, "depths": (1, 1, 2, 1)}
        | {"num_heads": (1, 2, 2, 2)},
        "layers.2",
    ),
}


# A layer norm behind the layer makes Grad-CAM's sum over channels cancel: double precision tells.
@pytest.mark.parametrize(
    ("method", "dtype", "tolerance"),
    [("gradcam", torch.float64, 1e-10), ("layercam", torch.float32, 1e-5)],
)
@pytest.mark.parametrize("name", SMALL)
def test_networks_of_timm(name: str, method: str, dtype: torch.dtype, tolerance: float) -> None:
    arguments, layer = SMALL[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = imports.timm().create_model(name, num_classes=5, **arguments).eval()
    images = networks.make_images(2, size=(64, 64)).to(dtype)
    assert_compiles(network.to(dtype), images, method, layer or "auto", tolerance=tolerance)


def test_cam_behind_a_norm() -> None:
    network = imports.timm().create_model("test_convnext", num_classes=5).double().eval()
    assert_compiles(network, networks.make_images(2, size=(64, 64)), "cam")


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"against": "nearest"}, {}),
        ({"against": 1, "strength": 0.5}, {"targets": [0, 4]}),
        ({"augment": True}, {}),
        ({"signed": True}, {"targets": [[0, 4], [1, 2]], "labels": [None, 3]}),
        ({"principal": True}, {"top_k": 1}),
        ({}, {"targets": "label", "labels": [2, 0]}),
        ({}, {"targets": [lambda logits: logits[:, 0] - logits[:, 1], lambda z: z[:, 2]]}),
    ],
)
def test_whatever_is_asked_of_an_explainer(options: dict, call: dict) -> None:
    images = networks.make_images(2)
    assert_compiles(classifier(), images, "hirescam", "tapped", call=call, **options)


@pytest.mark.parametrize("fusion", ["max", "product"])
def test_several_layers(fusion: str) -> None:
    images, layers = networks.make_images(2), ["stem", "last"]
    assert_compiles(classifier(), images, "layercam", layers, fusion=fusion)


def test_functions_as_targets_have_graphs_of_their_own() -> None:
    images, compiled = networks.make_images(2), mitate.compile(classifier())
    first = compiled(images, targets=lambda logits: logits[:, 0])
    other = compiled(images, targets=lambda logits: logits[:, 1])
    plain = compiled(images, targets=[[0], [0]])
    assert torch.equal(first.maps, plain.maps)
    assert not torch.equal(first.maps, other.maps)


def test_volumes() -> None:
    class Film(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tapped = nn.Conv3d(1, 4, 3, stride=2, padding=1)
            self.last = nn.Conv3d(4, 6, 3, padding=1)
            self.head = nn.Linear(6, 5)

        def forward(self, films: Tensor) -> Tensor:
            return self.head(self.last(self.tapped(films).relu()).square().mean((-3, -2, -1)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        films, film = torch.randn(2, 1, 8, 12, 10).double(), Film().double()
    compiled = assert_compiles(film, films, "hirescam", "tapped")
    assert compiled(films).maps.shape == (2, 3, 4, 6, 5)


def test_photos(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(path)
    model = classifier(preprocessing=Preprocessing(size=(16, 24)))
    explanation = mitate.compile(model)(paths)
    assert_equal(explanation, Explainer(model)(paths))
    assert explanation.names == ("0.png", "1.png")
    assert explanation.pictures is not None


def test_other_numbers_of_images_are_padded() -> None:
    images, compiled = networks.make_images(7), mitate.compile(classifier(), batch_size=4)
    wanted = Explainer(classifier(), batch_size=4)(images)
    assert_equal(compiled(images), wanted)
    assert sorted(key[0] for key in compiled._graphs.made) == [4]
    for number in (1, 2, 3):
        torch.testing.assert_close(compiled(images[:number]).maps, wanted.maps[:number], **GIVEN)
    assert sorted(key[0] for key in compiled._graphs.made) == [1, 2, 4]


def test_other_sizes_and_classes_have_graphs_of_their_own() -> None:
    compiled = mitate.compile(classifier(), "gradcam", "tapped", 2)
    assert compiled(networks.make_images(1)).classes.shape == (1, 2)
    assert compiled(networks.make_images(1), top_k=4).classes.shape == (1, 4)
    assert compiled(networks.make_images(1, size=(32, 32))).maps.shape == (1, 2, 8, 8)
    assert len(compiled._graphs.made) == 3


def test_the_gradients_of_all_classes_are_one_pass() -> None:
    network = imports.timm().create_model("test_convnext", num_classes=9).eval()
    numbers = []
    for top_k in (1, 5):
        compiled = mitate.compile(network, "gradcam", "stages.0", top_k)
        compiled(torch.randn(2, 3, 64, 64))
        (graph,) = graphs(compiled)
        dear = ("convolution", "mm.", "addmm", "erf", "exp.")
        numbers.append([op for op in operations(graph) if any(part in op for part in dear)])
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) > 10


def test_nothing_but_the_graph_is_run() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    model = Classifier.from_module(network, classes=5)
    compiled = mitate.compile(model, "gradcam", "tapped")
    wanted = compiled(images)

    def fail(*_: object) -> None:
        raise AssertionError("the network itself was run")

    for module in network.modules():
        module.register_forward_hook(fail)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        again = compiled(images)
    assert_equal(again, wanted)
    assert not saved
    assert not again.maps.requires_grad


def test_weights_are_not_copied_and_changes_in_place_are_followed() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    model = Classifier.from_module(network, classes=5)
    compiled = mitate.compile(model, "gradcam", "tapped")
    before = compiled(images)
    (graph,) = graphs(compiled)
    held = {each.data_ptr() for each in [*graph.parameters(), *graph.buffers()] if each.ndim > 1}
    own = {weight.data_ptr() for weight in network.parameters()}
    assert held <= own
    with torch.no_grad():
        network.head.weight.neg_()
        network.norm.running_var.mul_(3)
    after = compiled(images)
    assert not torch.equal(after.maps, before.maps)
    assert_equal(after, Explainer(model, "gradcam", "tapped")(images))
    assert graphs(compiled) == [graph]


def test_other_weights_are_noticed() -> None:
    network, images = networks.make("with relu"), networks.make_images(2)
    model = Classifier.from_module(network, classes=5)
    compiled = mitate.compile(model, "gradcam", "tapped")
    compiled(images)
    network.head = networks.make("with relu", seed=5).head
    assert_equal(compiled(images), Explainer(model, "gradcam", "tapped")(images))
    network.to(memory_format=torch.channels_last)
    assert_equal(compiled(images), Explainer(model, "gradcam", "tapped")(images))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_network_is_left_as_it_was(mode) -> None:
    network, images = networks.make("with relu in place"), networks.make_images(2)
    network.train()
    network.norm.eval()
    network.head.requires_grad_(False)
    mean, given = network.norm.running_mean.clone(), images.clone()
    with mode():
        mitate.compile(network, "gradcam", "tapped")(images)
    assert [module.training for module in network.modules()].count(False) == 1
    assert not network.norm.training
    assert [p.requires_grad for p in network.parameters()].count(False) == 2
    assert all(p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(network.norm.running_mean, mean)
    assert torch.equal(images, given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    model = classifier().network.to(dtype)
    compiled = mitate.compile(model, "gradcam", "tapped")
    images = networks.make_images(2).to(dtype)
    assert_equal(compiled(images), Explainer(model, "gradcam", "tapped")(images), 0.05)
    assert graphs(compiled)


@pytest.mark.parametrize("method", UNTRACED)
def test_what_cannot_be_a_graph_says_so_and_is_run_as_ever(method: str) -> None:
    with pytest.warns(MitateWarning, match=f"{method} (needs .*, which no static|repeats itself)"):
        compiled = mitate.compile(classifier(), method, "tapped")
    assert not compiled.is_traceable


def test_it_then_gives_what_the_explainer_gives() -> None:
    images = networks.make_images(2)
    with pytest.warns(MitateWarning, match="ablationcam needs suffix"):
        compiled = mitate.compile(classifier(), "ablationcam", "tapped", 2)
    assert_equal(compiled(images), Explainer(classifier(), "ablationcam", "tapped")(images, 2))
    assert not graphs(compiled)


class Branching(nn.Module):
    """Its way depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.net = networks.make("with relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images) if images.sum() > 0 else self.net(-images)


class Drawing(Branching):
    """Draws numbers in evaluation too."""

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images + torch.rand_like(images))


class Comparing(Branching):
    """Every image's scores depend on those beside it."""

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images - images.mean(0))


@pytest.mark.parametrize(
    ("network", "images", "message"),
    [
        (Branching, 2, "Branching cannot be traced .*: it runs as it is"),
        (Drawing, 2, "Drawing cannot be traced .*random"),
        (Comparing, 3, "Comparing gives another result as a static graph"),
    ],
)
def test_networks_that_no_graph_stands_for(network, images: int, message: str) -> None:
    model = Classifier.from_module(network(), classes=5)
    batch = networks.make_images(images)
    compiled = mitate.compile(model, "gradcam", "net.tapped", 2)
    with pytest.warns(MitateWarning, match=message):
        found = compiled(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        compiled(batch)
    assert found.classes.shape == (images, 2)
    if network is not Drawing:
        assert_equal(found, Explainer(model, "gradcam", "net.tapped")(batch, 2))


def test_what_a_network_keeps_of_a_forward_stays_real() -> None:
    class Keeping(Branching):
        def forward(self, images: Tensor) -> Tensor:
            self.kept = images.mean(0)
            return self.net(images)

    network, images = Keeping(), networks.make_images(2)
    assert_compiles(network, images, "gradcam", "net.tapped")
    assert type(network.kept) is Tensor
    torch.testing.assert_close(network.kept * 2, images.flip(0).mean(0) * 1.6)


def test_the_graph_can_be_exported() -> None:
    images, compiled = networks.make_images(2), mitate.compile(classifier(), "gradcam", "tapped")
    wanted = compiled(images)
    (graph,) = graphs(compiled)
    program = torch.export.export(graph, (images,))
    logits, classes, maps, _ = program.module()(images)
    torch.testing.assert_close(maps, wanted.maps)
    torch.testing.assert_close(logits, wanted.logits)
    assert torch.equal(classes, wanted.classes)


def test_a_class_that_the_layer_does_not_see_is_flagged() -> None:
    network = networks.make("with relu")
    with torch.no_grad():
        network.head.weight[1] = 0
    compiled = mitate.compile(network, "gradcam", "tapped")
    (flag,) = compiled(networks.make_images(1), targets=[1]).flags
    assert "no gradient" in flag.reason


def test_a_layer_that_no_score_depends_on() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.aside, self.net = nn.Conv2d(3, 4, 4, stride=4), networks.make("with relu")

        def forward(self, images: Tensor) -> Tensor:
            self.aside(images)
            return self.net(images)

    model, images = Aside().double(), networks.make_images(2)
    assert_compiles(model, images, "gradcam", "aside")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "onnx"}, UsageError, "'onnx': use one of eager, inductor"),
        ({"top_k": 9}, TargetError, "top_k is 9 and the classifier has 5 classes"),
        ({"batchsize": 3}, UsageError, "did you mean batch_size"),
        ({"method": "gradcamm"}, UsageError, "did you mean gradcam"),
    ],
)
def test_wrong_arguments(options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        mitate.compile(classifier(), **options)


def test_no_compiler_for_inductor(monkeypatch) -> None:
    from torch._inductor import cpp_builder, exc

    def missing() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler .* or take backend='eager'"):
        mitate.compile(classifier(), backend="inductor")


def test_what_inductor_cannot_compile_runs_as_it_is(monkeypatch) -> None:
    def broken(run, **_):
        def fail(*_):
            raise RuntimeError("no such kernel")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    compiled = mitate.compile(classifier(), "gradcam", "tapped", backend="inductor")
    images = networks.make_images(2)
    with pytest.warns(MitateWarning, match="cannot be compiled by inductor .*no such kernel"):
        found = compiled(images)
    assert_equal(found, Explainer(classifier(), "gradcam", "tapped")(images))
    assert graphs(compiled)


@pytest.mark.long
@pytest.mark.parametrize("method", ["layercam", "eigencam"])
def test_inductor(method: str) -> None:
    network = imports.timm().create_model("test_convnext", num_classes=5).eval()
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    compiled = mitate.compile(network, method, "stages.1", backend="inductor")
    compiled(images)
    (run,) = graphs(compiled)
    assert not isinstance(run, GraphModule)
    assert_equal(compiled(images), Explainer(network, method, "stages.1")(images), 1e-5)


@pytest.mark.parametrize("method", ["scorecam", "rise", "occlusion"])
@pytest.mark.parametrize("name", ["with relu in place", "channels last", "tokens"])
def test_masked_forwards_run_as_a_graph(method: str, name: str, monkeypatch) -> None:
    """Of their own trace here; inductor is tried by the long tests."""
    compiled_graphs = []
    monkeypatch.setattr(torch, "compile", lambda run, **_: compiled_graphs.append(run) or run)
    network, images = networks.make(name), networks.make_images(2)
    model = Classifier.from_module(network, classes=networks.CLASSES)
    few = {"samples": 12} if method == "rise" else {}
    given = {"layer": network.layer, "batch_size": 8, **few}
    compiled = mitate.compile(model, method, backend="inductor", **given)
    explainer = Explainer(model, method, **given)
    assert_equal(compiled(images, 2), explainer(images, 2))
    graph = compiled_graphs[0]
    assert isinstance(graph, GraphModule)
    assert not [op for op in operations(graph) if op.endswith("_.default")]
    assert sorted(key[0] for key in compiled._quick.graphs.made)[-1] == 8
    runs = []
    network.register_forward_hook(lambda *_: runs.append(1))
    compiled(images, 2)
    assert len(runs) == 1  # the images themselves, of which the activations are


def test_masked_forwards_of_functions_have_graphs_of_their_own(monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda run, **_: run)
    images = networks.make_images(2)
    compiled = mitate.compile(classifier(), "scorecam", "tapped", backend="inductor")
    plain = Explainer(classifier(), "scorecam", "tapped")
    for call in ({"top_k": 2}, {"targets": lambda logits: logits[:, 1] - logits[:, 0]}):
        assert_equal(compiled(images, **call), plain(images, **call))


def test_masked_forwards_that_no_graph_stands_for() -> None:
    model = Classifier.from_module(Comparing(), classes=5)
    images = networks.make_images(3)
    compiled = mitate.compile(model, "scorecam", "net.tapped", backend="inductor")
    with pytest.warns(MitateWarning, match="Comparing gives another result"):
        found = compiled(images, 2)
    assert found.classes.shape == (3, 2)


@pytest.mark.long
def test_inductor_runs_masked_forwards() -> None:
    network = imports.timm().create_model("test_convnext", num_classes=5).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    compiled = mitate.compile(network, "scorecam", "stages.1", backend="inductor")
    wanted = Explainer(network, "scorecam", "stages.1")(images)
    assert_equal(compiled(images), wanted, 1e-4)
    assert not any(
        isinstance(each.run, GraphModule) for each in compiled._quick.graphs.made.values()
    )
