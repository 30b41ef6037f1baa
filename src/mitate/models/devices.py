"""Where a network runs: a device by its name, or the best that is there."""

import torch

from mitate.errors import UsageError

AUTO = "auto"


def find_device(name: str | torch.device = AUTO) -> torch.device:
    """Give the device of a name such as ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    ``auto`` is the first GPU that PyTorch drives by CUDA (or ROCm), and the CPU where there is
    none.

    Raises:
        UsageError: no such device, or none that works on this machine.
    """
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except Exception as exc:  # each backend raises its own kinds
        message = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise UsageError(
            f"device {str(name)!r} cannot be used here ({message}): name another, such as cpu, or "
            "auto; mitate doctor tells what is there"
        ) from exc
    return device
