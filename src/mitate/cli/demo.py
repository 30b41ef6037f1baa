"""mitate demo."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mitate.cli.explain import print_places
from mitate.cli.parsing import Flag, Json
from mitate.cli.tables import print_json, tell
from mitate.files import check_folder


def demo(
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    story: Flag = False,
    seed: int = 0,
    scorecam: bool = True,
    json: Json = False,
) -> int:
    """The main job from end to end, offline: draw paddy leaves, train, look, report.

    Simulated photos of rice leaves with nine diseases and healthy ones, each with its exact lesion
    mask; a small ConvNeXt trained from scratch; maps; where they lie; a report.

    Args:
        out: the folder for everything; out/demo, or out/story, when not given.
        story: instead, plant a cheat, see it learnt, let the audit find it, and unlearn it.
        seed: of the photos, the weights and the training.
        scorecam: measure Score-CAM too, which takes a forward a channel.
        json: print the figures as JSON.
    """
    folder = out or Path("out/story" if story else "out/demo")
    check_folder(folder)
    run = _story if story else _demo
    try:
        return run(folder, seed, scorecam, json)
    except KeyboardInterrupt as exc:
        raise KeyboardInterrupt(
            "before the end: run it again, and what is drawn already is used again"
        ) from exc


def _demo(folder: Path, seed: int, scorecam: bool, json: bool) -> int:
    from mitate.demo import run_demo

    result = run_demo(folder, seed=seed, scorecam=scorecam, tell=tell)
    if json:
        print_json(
            {
                "seed": seed,
                "accuracy": result.accuracy,
                "photos": result.photos,
                "energy": [asdict(place) for place in result.comparison.places()],
                "figure": str(result.figure),
                "report": str(result.report),
            }
        )
        return 0
    print_places(result.comparison)
    print(f"validation accuracy {result.accuracy:.3f} on {result.photos} photos of ten classes")
    print(f"figure: {result.figure}")
    print(f"report: {result.report}")
    return 0


def _story(folder: Path, seed: int, scorecam: bool, json: bool) -> int:
    from mitate.story import tell_story

    story = tell_story(folder, seed=seed, scorecam=scorecam, tell=tell if json else _say)
    if json:
        print_json(story.as_dict())
    else:
        print(f"page: {story.page}")
    return 0


def _say(words: str) -> None:
    print(words, flush=True)
