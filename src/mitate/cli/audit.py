"""mitate audit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from mitate.cli.explain import SOME_FAILED
from mitate.cli.parsing import Device, Flag, Json, check_masks_for, options_of
from mitate.cli.tables import print_json, print_table, tell, tell_what_to_know
from mitate.data.wording import counted
from mitate.files import check_folder

if TYPE_CHECKING:
    from mitate.auditing.audit import Audit
    from mitate.auditing.gate import Outcome
    from mitate.auditing.leaderboard import Standing

THRESHOLD_MISSED = 4
Names = tuple[str, ...]
MethodNames = Annotated[Names, Parameter(name=["--method", "-m"], negative=(), show_default=False)]
LayerNames = Annotated[Names, Parameter(name=["--layer", "-l"], negative=(), show_default=False)]
MetricNames = Annotated[Names, Parameter(name="--metric", negative=(), show_default=False)]
Required = Annotated[Names, Parameter(name="--require", negative=(), show_default=False)]
MetricOptions = Annotated[Names, Parameter(name="--option", negative=(), show_default=False)]
OutFolder = Annotated[Path | None, Parameter(name=["--out", "-o"])]


def audit(
    ref: str,
    data: Path,
    /,
    *,
    masks: Path | None = None,
    mask_value: int | None = None,
    object_value: int | None = None,
    out: OutFolder = None,
    method: MethodNames = (),
    layer: LayerNames = (),
    metric: MetricNames = (),
    pick: str | None = None,
    budget: str | None = None,
    require: Required = (),
    option: MetricOptions = (),
    audited: Literal["label", "predicted"] = "label",
    split: Literal["train", "valid", "test"] | None = None,
    limit: int = 64,
    reasons: int = 256,
    batch_size: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    remember: Flag = False,
    title: str = "",
    json: Json = False,
) -> int:
    """Tell which map is true of the classifier, and whether it looks at the right place.

    Args:
        ref: the classifier.
        data: photos, a folder of them, or a data set; of one with splits the validation part.
        masks: a folder or a CSV of masks of the right places: adds localisation and reliance.
        mask_value: the value that marks the region in index masks.
        object_value: the value that marks the object around the region in index masks: regions
            elsewhere then lie on it.
        out: the folder for report.html, audit.csv and audit.json; an interrupted audit goes on
            from what lies there.
        method: a method (mitate methods) to compare; repeat it. Seven when not given.
        layer: a layer (mitate layers), auto, or earlier for one of each finer grid; repeat it.
        metric: a metric to measure, or a family of them such as faithfulness; repeat it. The
            default ones when not given.
        pick: the metric that recommends; energy with masks, early_deletion without.
        budget: at most so many forwards (50000, 200k) or so much time (90s, 10min), spent on the
            better maps.
        require: a threshold, such as "energy>=0.5", "accuracy>=0.9" or "deletion better than
            control"; repeat it. Exits with 4 where one is missed.
        option: an option of the metrics, NAME=VALUE.
        audited: audit the map of the true class where it is known, or of the predicted class.
        split: another split of the data set.
        limit: so many photos, evenly chosen, three quarters of them with masks if there are so
            many.
        reasons: in so many photos wrong reasons are looked for; 0 looks for none.
        batch_size: images in one forward; 16 of 224 px and more of smaller ones when not given.
        seed: of all that is random.
        device: cpu, cuda, cuda:1 or another; auto is a CUDA GPU where there is one.
        remember: write the recommended map into the classifier's folder, for Explainer.best.
        title: of the report.
        json: print audit.json.
    """
    import mitate
    from mitate.auditing.files import as_dict
    from mitate.auditing.files import remember as keep
    from mitate.errors import UsageError
    from mitate.models.classifier import Classifier

    check_masks_for(masks, mask_value=mask_value, object_value=object_value)
    if out is not None:
        check_folder(out)
    classifier = Classifier.load(ref).to(device)
    if remember and classifier.folder is None:
        raise UsageError(f"{ref} has no folder to remember the map in: leave --remember out")
    try:
        done = mitate.audit(
            classifier,
            data,
            masks=masks,
            mask_value=mask_value,
            object_value=object_value,
            out=out,
            methods=method or None,
            layers=layer or None,
            metrics=metric or None,
            pick=pick,
            budget=budget,
            require=require,
            options=options_of(option),
            audited=audited,
            split=split,
            limit=limit,
            reasons=reasons,
            batch_size=batch_size,
            seed=seed,
            title=title,
            tell=tell,
            shown=True,
        )
    except KeyboardInterrupt as exc:
        raise KeyboardInterrupt(_kept(out)) from exc
    tell_what_to_know(done.notices, done.failures)
    if remember and classifier.folder is not None and keep(done, classifier.folder):
        trusted = done.recommendation is not None and done.recommendation.trusted
        doubt = (
            "" if trusted else ", as the best of those that were compared and not to be relied on"
        )
        tell(f"remembered in {classifier.folder}{doubt}")
    if json:
        print_json(as_dict(done))
    else:
        _print_audit(done)
    if out is not None:
        tell(f"report: {out / 'report.html'}")
    return code_of(done.gate, bool(done.failures))


def _kept(out: Path | None) -> str:
    """What an interrupted audit leaves, for the next one."""
    from mitate.jobs.auditing import PARTS

    parts = [] if out is None else sorted((out / PARTS).glob("*.npz"))
    if not parts:
        return "before anything was measured that could be kept"
    return f"after {counted(len(parts), 'part')}: the same command goes on from there"


def code_of(gate: "tuple[Outcome, ...]", failures: bool) -> int:
    """The exit code; a missed threshold is more than a photo that could not be read."""
    if not all(outcome.met for outcome in gate):
        return THRESHOLD_MISSED
    return SOME_FAILED if failures else 0


def print_gate(gate: "tuple[Outcome, ...]") -> None:
    """Print the requirements and whether they were met."""
    for outcome in gate:
        print(f"{'met' if outcome.met else 'MISSED'}: {outcome.requirement} ({outcome.found})")


def _print_audit(done: "Audit") -> None:
    from mitate.data.wording import counted

    pick = str(done.parameters["pick"])
    rows = [_row(line, pick) for line in done.ranked()]
    title = f"{counted(done.values.images, 'image')}, by {pick.replace('_', ' ')}"
    columns = ("map", "layer", "mean", "95 % interval", "images", "forwards", "")
    print_table(columns, rows, title=title)
    print(done.verdict.headline)
    for sentence in done.verdict.sentences:
        print(f"- {sentence}")
    print(f"Next: {done.verdict.advice}")
    print_gate(done.gate)


def _row(line: "Standing", pick: str) -> list[str]:
    score = line.scores.get(pick)
    value = score.value if score and score.value.images else None
    kind = f" ({line.kind})" if line.is_control else ""
    return [
        line.method + kind,
        line.layer,
        f"{value.mean:.3f}" if value else "–",
        f"{value.low:.3f} to {value.high:.3f}" if value else "–",
        line.images_with(pick),
        f"{line.cost:.1f}",
        "; ".join([*([score.words] if score and score.words else []), *line.badges]),
    ]
