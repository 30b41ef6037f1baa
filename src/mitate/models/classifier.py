"""A classifier: a network with its class names, its preprocessing and its provenance."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mitate import imports
from mitate.data.seen import Seen
from mitate.errors import ClassifierError, MitateWarning, UsageError
from mitate.models.architecture import input_channels, number_of_outputs
from mitate.models.configs import config_of, labels
from mitate.models.decoder import Decoder, MultiTask
from mitate.models.devices import find_device
from mitate.models.mode import at_full_speed, evaluating
from mitate.models.preprocessing import Preprocessing, Resize
from mitate.models.processors import assumed_preprocessing
from mitate.models.tasks import Task, check_task, task_of

Output = Callable[[Any], Tensor]
CROP_MODES: dict[Any, Resize] = {"squash": "squash", "border": "pad"}


@dataclass(frozen=True)
class Classifier:
    """A network with what is needed to use it and to say where it came from.

    Attributes:
        network: gives logits (b, classes) for inputs (b, channels, H, W); never altered.
        class_names: one name a class, in the order of the logits.
        preprocessing: from a photo to the input.
        provenance: plain data: reference, training, metrics, licence of the weights.
        output: takes the logits from what the network returns; None reads a tensor, the first
            element of a tuple, or ``.logits``.
        recipe: how to build the network again, where that is known already.
        folder: where it was loaded from or saved to.
        task: whether one class is true, any number of them, or the outputs are values.
        decoder: segments what was marked in training with masks; None without.
        seen: the photos that it was trained on; None where that is not known.
    """

    network: nn.Module
    class_names: tuple[str, ...]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    output: Output | None = None
    recipe: Mapping[str, Any] | None = None
    folder: Path | None = None
    task: Task = "single-label"
    decoder: Decoder | None = None
    seen: Seen | None = None

    def __post_init__(self) -> None:
        """Take one output for the log-odds of its class: a softmax of one is 1, always.

        Raises:
            UsageError: no such task.
        """
        check_task(self.task)
        if self.task == "single-label" and len(self.class_names) == 1:
            object.__setattr__(self, "task", "multi-label")
            object.__setattr__(self, "provenance", {**self.provenance, "guessed_task": True})

    @classmethod
    def load(
        cls, reference: str | Path, *, class_names: Sequence[str] | None = None
    ) -> "Classifier":
        """Load a classifier from a reference, the same everywhere.

        Args:
            reference: a folder saved by mitate, ``timm:NAME``, ``timm:NAME@WEIGHTS``,
                ``torchvision:NAME``, ``torchvision:NAME@WEIGHTS``, ``hf:ORG/NAME`` or
                ``hf:FOLDER`` with what ``save_pretrained`` of transformers wrote.
            class_names: names of the classes. Where weights of a library or of Hugging Face have
                another number of them, the head is made anew (untrained) and a warning says so;
                the classes of a folder of mitate's can be renamed, not changed in number.

        Raises:
            ClassifierError: no classifier there; WeightsError: weights of another architecture;
            UnsafePickleError: weights that would run code; MissingExtraError: transformers is not
            installed.
        """
        from mitate.models.references import load

        return load(str(reference), class_names)

    @classmethod
    def from_module(
        cls,
        network: nn.Module,
        *,
        classes: Sequence[str] | int | None = None,
        preprocessing: Preprocessing | None = None,
        output: Output | None = None,
        task: Task | None = None,
    ) -> "Classifier":
        """Wrap a network as it is.

        Args:
            network: any module that gives logits; of one that ``torch.compile`` made the original,
                since layers are watched inside it.
            classes: class names, or their number; None takes the names from a Hugging Face
                network's configuration, and otherwise the number from the last linear layer.
            preprocessing: None takes it from a timm network's configuration, and otherwise assumes
                ImageNet's at 224 px, or at the size that a Hugging Face network's configuration
                tells (with a warning when photos, not tensors, are given).
            output: takes the logits from an output that is no tensor, tuple or ``.logits``.
            task: ``multi-label`` where several classes can be true at once (each probability is a
                sigmoid), ``regression`` where the outputs are values; None takes a Hugging Face
                network's own, and otherwise ``single-label``, or of one output ``multi-label``,
                with a warning when it is explained.
        """
        network = _uncompiled(network)
        _check_weights(network)
        if any(weight.is_inference() for weight in network.parameters()):
            raise UsageError(
                "this network was made under torch.inference_mode(), and such weights take no "
                "gradients: give copy.deepcopy(network), made outside of it"
            )
        names = _class_names(network, classes)
        known = preprocessing or timm_preprocessing(network)
        provenance: dict[str, Any] = {} if known else {"assumed_preprocessing": True}
        if classes is None and not _labels(network):
            provenance["guessed_classes"] = True
        return cls(
            network,
            names,
            known or _assumed(network),
            provenance,
            output,
            task=task or _task(network, len(names)),
        )

    @classmethod
    def from_learner(cls, learner: Any) -> "Classifier":
        """Wrap a fastai Learner: its network, vocabulary, normalisation, size and resize method."""
        from mitate.models.learners import from_learner

        return from_learner(learner)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.preprocessing.size))
        network = type(self.network).__name__
        return f"Classifier({network}, {len(self.class_names)} classes, {size} px)"

    @property
    def reference(self) -> str:
        """What it is known by: its folder, without where that lies on this machine, or its source.

        Empty for a module of the caller's own.
        """
        if self.folder is None:
            return str(self.provenance.get("reference") or "")
        return self.folder.name if self.folder.is_absolute() else self.folder.as_posix()

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        weights = next(self.network.parameters(), None)
        return weights.device if weights is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The type of the network's weights."""
        weights = next((p for p in self.network.parameters() if p.is_floating_point()), None)
        return weights.dtype if weights is not None else torch.float32

    def to(self, device: str | torch.device) -> "Classifier":
        """Move the network, and the decoder if there is one; give the classifier itself.

        Maps are made, and audits run, on the device that the network is on.

        Args:
            device: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or another; ``auto`` is a CUDA GPU where
                there is one, and the CPU otherwise.

        Raises:
            UsageError: no such device, or none that works on this machine.
        """
        place = find_device(device)
        self.network.to(place)
        if self.decoder is not None:
            self.decoder.to(place)
        return self

    def read(self, output: Any) -> Float[Tensor, "b classes"]:
        """Take the logits from what the network returned.

        Raises:
            ClassifierError: no logits there; tells how to give ``output=``.
        """
        logits = self.output(output) if self.output else _first_logits(output)
        classes = len(self.class_names)
        if isinstance(logits, Tensor) and logits.ndim < 2 and classes in (1, logits.numel()):
            logits = logits.reshape(-1, classes)  # squeezed: of one class, or of one image
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
            raise ClassifierError(
                f"the network gives {found} where logits (batch, classes) are expected: give "
                "mitate.Classifier.from_module(network, output=...), a function from the network's "
                "output to the logits"
            )
        return logits

    def logits(self, inputs: Float[Tensor, "b channels *pixels"]) -> Float[Tensor, "b classes"]:
        """One forward without gradients, in evaluation mode; the network is left as it was."""
        own = inputs.detach().to(self.device, self.dtype, copy=True)
        with evaluating(self.network), torch.no_grad():
            return at_full_speed(self.network, own, lambda images: self.read(self.network(images)))

    def segment(self, inputs: Float[Tensor, "b channels H W"]) -> Float[Tensor, "b regions H W"]:
        """Probability of each of the decoder's regions at each pixel, without gradients.

        Raises:
            ClassifierError: a classifier without a decoder.
        """
        if self.decoder is None:
            raise ClassifierError(
                "this classifier has no segmentation: train one with masks (mitate train --masks)"
            )
        decoder = self.decoder.to(self.device, self.dtype)
        both = MultiTask(self.network, decoder)
        with evaluating(self.network), evaluating(decoder), torch.no_grad():
            logits: Tensor = both(inputs.detach().to(self.device, self.dtype, copy=True))[1]
            return logits.sigmoid()

    def inputs(self, photos: Sequence[Image.Image]) -> Float[Tensor, "b channels H W"]:
        """Preprocess RGB photos into one batch on the network's device."""
        if self.provenance.get("assumed_preprocessing"):
            height, width = self.preprocessing.size
            warnings.warn(
                "this network does not tell its preprocessing: ImageNet's mean and std at "
                f"{height}x{width} px are assumed; pass preprocessing=mitate.Preprocessing(...) to "
                "from_module",
                MitateWarning,
                stacklevel=2,
            )
        batch = torch.stack([self.preprocessing(photo) for photo in photos])
        return batch.to(self.device, self.dtype)

    def save(self, folder: str | Path) -> "Classifier":
        """Write ``classifier.json``, ``weights.safetensors`` and what it was trained on, if known.

        It loads back to the same logits.

        Raises:
            ClassifierError: a network that cannot be built again.
        """
        from mitate.models.saved import save

        return replace(self, folder=save(self, Path(folder)))

    def with_provenance(self, **facts: Any) -> "Classifier":
        """The same classifier with more provenance."""
        return replace(self, provenance={**copy.deepcopy(dict(self.provenance)), **facts})


def timm_preprocessing(network: nn.Module) -> Preprocessing | None:
    """The preprocessing that a timm network's configuration names, or None."""
    if not getattr(network, "pretrained_cfg", None):
        return None
    config = imports.timm("data").resolve_model_data_config(network)
    size = getattr(getattr(network, "patch_embed", None), "img_size", None)
    mean, std = (tuple(float(value) for value in config[name]) for name in ("mean", "std"))
    if input_channels(network) == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return Preprocessing(
        size=tuple(size or config["input_size"][1:]),
        resize=CROP_MODES.get(config.get("crop_mode"), "crop"),
        crop_fraction=min(1.0, float(config.get("crop_pct") or 1.0)),
        interpolation=config["interpolation"] if config["interpolation"] != "random" else "bicubic",
        mean=mean,
        std=std,
    )


def _class_names(network: nn.Module, classes: Sequence[str] | int | None) -> tuple[str, ...]:
    if isinstance(classes, str):
        raise UsageError("classes must be a list of names or their number, not one string")
    if classes is not None and not isinstance(classes, int):
        return tuple(str(name) for name in classes)
    if classes is None and (named := _labels(network)):
        return named
    number = _number_of_classes(network) if classes is None else classes
    if number < 1:
        raise UsageError(f"classes is {number}: a classifier has 1 or more")
    return tuple(f"class {index}" for index in range(number))


def _task(network: nn.Module, classes: int) -> Task:
    config = config_of(network)
    if config is None:
        return "single-label"
    return task_of(getattr(config, "problem_type", None), classes)


def _assumed(network: nn.Module) -> Preprocessing:
    config = config_of(network)
    return Preprocessing() if config is None else assumed_preprocessing(config)


def _labels(network: nn.Module) -> tuple[str, ...]:
    """The class names in a Hugging Face network's configuration; none for other networks."""
    return labels(getattr(config_of(network), "id2label", None))


def _number_of_classes(network: nn.Module) -> int:
    number = getattr(network, "num_classes", None)
    if isinstance(number, int) and number > 0:
        return number
    outputs = number_of_outputs(network)
    if outputs is None:
        raise UsageError(
            "the number of classes cannot be told from this network: give it in "
            "mitate.Classifier.from_module(network, classes=...)"
        )
    return outputs


def _check_weights(network: nn.Module) -> None:
    """Refuse weights that have no values yet."""
    weights = [*network.parameters(), *network.buffers()]
    if any(nn.parameter.is_lazy(weight) for weight in weights):
        raise UsageError(
            "this network has lazy layers that have seen no input: run one batch through it first"
        )
    if any(weight.is_meta for weight in weights):
        raise UsageError(
            "weights of this network are on the meta device and have no values: load them, as by "
            "network.to_empty(device='cpu') and load_state_dict"
        )


def _uncompiled(network: nn.Module) -> nn.Module:
    """The module inside what ``torch.compile`` gives."""
    return dict(network.named_children()).get("_orig_mod", network)


def _first_logits(output: Any) -> Any:
    if isinstance(output, tuple | list) and output and not hasattr(output, "logits"):
        return output[0]
    return getattr(output, "logits", output)
