"""mitate demo."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mitate.cli.explain import print_places
from mitate.cli.places import check_folder
from mitate.cli.tables import tell


def demo(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("out/demo"),
    seed: int = 0,
    scorecam: bool = True,
) -> int:
    """The main job from end to end, offline: draw paddy leaves, train, look, report.

    Simulated photos of rice leaves with nine diseases and healthy ones, each with its exact lesion
    mask; a small ConvNeXt trained from scratch; maps; where they lie; a report.

    Args:
        out: the folder for everything.
        seed: of the photos, the weights and the training.
        scorecam: measure Score-CAM too, which takes a forward a channel.
    """
    from mitate.demo import run_demo

    check_folder(out)
    result = run_demo(out, seed=seed, scorecam=scorecam, tell=tell)
    print_places(result.comparison)
    print(f"validation accuracy {result.accuracy:.3f} on {result.photos} photos of ten classes")
    print(f"figure: {result.figure}")
    print(f"report: {result.report}")
    return 0
