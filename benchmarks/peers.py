"""The same maps by hand and by the peers: top-k classes of a batch of preprocessed images."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CAPTUM: dict[str, dict[str, Any]] = {
    "IntegratedGradients": {"n_steps": 32, "internal_batch_size": 16},
    "Occlusion": {"sliding_window_shapes": (3, 56, 56), "strides": (3, 28, 28)},
}
TORCHCAM = {"SSCAM": {"num_samples": 8}, "SmoothGradCAMpp": {"num_samples": 8}}  # as mitate


def hook_loop(network: nn.Module, layer: nn.Module, images: Tensor, k: int) -> np.ndarray:
    """What people write by hand: an image at a time, a forward and a backward a class."""
    kept: dict[str, Tensor] = {}

    def keep(_module: nn.Module, _args: object, output: Any) -> None:
        kept["activations"] = output
        if output.requires_grad:
            output.register_hook(lambda gradient: kept.__setitem__("gradients", gradient))

    handle = layer.register_forward_hook(keep)
    maps = []
    for image in images:
        with torch.no_grad():
            order = network(image[None])[0].topk(k).indices
        for index in order:
            network.zero_grad()
            network(image[None])[0, index].backward()
            weights = kept["gradients"].mean((2, 3), keepdim=True)
            maps.append((weights * kept["activations"]).sum(1).relu()[0].detach().numpy())
    handle.remove()
    network.zero_grad()
    return np.stack(maps).reshape(len(images), k, *maps[0].shape)


def grad_cam(
    network: nn.Module, layer: nn.Module, images: Tensor, k: int, method: str = "GradCAM"
) -> np.ndarray:
    """pytorch-grad-cam: a call a class."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with torch.no_grad():
        order = network(images).topk(k).indices
    explain = getattr(pytorch_grad_cam, method)(model=network, target_layers=[layer])
    explain.batch_size = 16
    hooks = getattr(explain, "activations_and_grads", None)
    try:
        return np.stack(
            [
                explain(
                    input_tensor=images,
                    targets=[ClassifierOutputTarget(int(index)) for index in order[:, rank]],
                )
                for rank in range(k)
            ],
            axis=1,
        )
    finally:
        if hooks is not None:
            hooks.release()


def torchcam(
    network: nn.Module, layer: nn.Module, images: Tensor, k: int, method: str = "GradCAM"
) -> np.ndarray:
    """torchcam: one forward, a call a class."""
    from torchcam import methods

    kind = getattr(methods, method)
    differentiates = issubclass(kind, methods.GradCAM.__mro__[1]) and method != "SmoothGradCAMpp"
    with kind(network, layer, **TORCHCAM.get(method, {})) as extractor:
        scores = network(images)
        order = scores.topk(k).indices
        keep = {"retain_graph": True} if differentiates else {}
        maps = [extractor(order[:, r].tolist(), scores, **keep)[0] for r in range(k)]
    return torch.stack(maps, 1).detach().numpy()


def captum(
    network: nn.Module, layer: nn.Module, images: Tensor, k: int, method: str = "LayerGradCam"
) -> np.ndarray:
    """captum: a call a class; of methods of pixels the colours are added up."""
    from captum import attr

    with torch.no_grad():
        order = network(images).topk(k).indices
    given = {"relu_attributions": True} if method == "LayerGradCam" else CAPTUM.get(method, {})
    kind = getattr(attr, method)
    explain = kind(network, layer) if method in ("LayerGradCam", "GuidedGradCam") else kind(network)
    pixels = images.clone().requires_grad_()
    maps = [explain.attribute(pixels, target=order[:, r], **given).sum(1) for r in range(k)]
    return torch.stack(maps, 1).detach().numpy()
