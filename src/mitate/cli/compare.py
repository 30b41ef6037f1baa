"""mitate compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mitate.cli.audit import (
    MetricNames,
    MetricOptions,
    OutFolder,
    Required,
    code_of,
    print_gate,
)
from mitate.cli.parsing import Device, Json, check_masks_for, options_of
from mitate.cli.tables import print_json, print_table, tell, tell_what_to_know
from mitate.data.wording import counted
from mitate.files import check_folder

if TYPE_CHECKING:
    from mitate.auditing.intervals import Interval
    from mitate.auditing.rivals import Rivals

SHOWN = 8


def compare(
    first: str,
    second: str,
    data: Path,
    /,
    *,
    masks: Path | None = None,
    mask_value: int | None = None,
    object_value: int | None = None,
    out: OutFolder = None,
    method: str | None = None,
    layer: str | None = None,
    metric: MetricNames = (),
    require: Required = (),
    option: MetricOptions = (),
    reasons: int = 256,
    audited: Literal["label", "predicted"] = "label",
    split: Literal["train", "valid", "test"] | None = None,
    limit: int = 64,
    batch_size: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Set two classifiers side by side: accuracy, every metric, where reasons moved.

    Args:
        first: the classifier that is there.
        second: the classifier that is to take its place.
        data: photos, a folder of them, or a data set; of one with splits the validation part.
        masks: a folder or a CSV of masks of the right places.
        mask_value: the value that marks the region in index masks.
        object_value: the value that marks the object around the region in index masks.
        out: a folder for compare.json and compare.csv.
        method: of both; what each one's folder remembers (mitate audit --remember), or hirescam,
            when not given.
        layer: of both; what is remembered, or auto.
        metric: a metric to measure, or a family of them such as faithfulness; repeat it. The
            default ones when not given.
        require: "accuracy not worse", "energy better", or "energy>=0.5" of the second; repeat it.
            Exits with 4 where one is missed.
        option: an option of the metrics, NAME=VALUE.
        reasons: in so many photos wrong reasons are looked for; 0 looks for none.
        audited: audit the map of the true class where it is known, or of the predicted class.
        split: another split of the data set.
        limit: so many photos, evenly chosen; of those with masks more.
        batch_size: images in one forward; 16 of 224 px and more of smaller ones when not given.
        seed: of all that is random.
        device: cpu, cuda, cuda:1 or another; auto is a CUDA GPU where there is one.
        json: print the comparison as JSON.
    """
    import mitate
    from mitate.jobs.comparing import as_dict
    from mitate.models.classifier import Classifier

    check_masks_for(masks, mask_value=mask_value, object_value=object_value)
    if out is not None:
        check_folder(out)
    done = mitate.compare(
        Classifier.load(first).to(device),
        Classifier.load(second).to(device),
        data,
        masks=masks,
        mask_value=mask_value,
        object_value=object_value,
        split=split,
        limit=limit,
        method=method,
        layer=layer,
        metrics=metric or None,
        audited=audited,
        require=require,
        reasons=reasons,
        options=options_of(option),
        seed=seed,
        batch_size=batch_size,
        out=out,
        tell=tell,
        shown=True,
    )
    tell_what_to_know(done.notices, done.failures)
    if json:
        print_json(as_dict(done))
    else:
        _print_rivals(done)
    return code_of(done.gate, bool(done.failures))


def _print_rivals(done: "Rivals") -> None:
    rows = [
        [
            one.metric,
            _mean(one.first),
            _mean(one.second),
            _signed(one.difference),
            one.words,
        ]
        for one in done.differences
    ]
    maps = [next(one.name for one in a.entrants if not one.is_control) for a in done.audits]
    title = f"{counted(len(done.moved), 'image')}; first: {maps[0]}, second: {maps[1]}"
    columns = ("metric", "first", "second", "difference, better above 0", "")
    print_table(columns, rows, title=title)
    for name, audit in zip(("first", "second"), done.audits, strict=True):
        print(f"{name}: {' '.join((audit.verdict.headline, *audit.facts.wrong_reasons))}")
    moved = [
        [one.image, one.true or "", one.first, one.second, f"{100 * one.moved:.0f} %"]
        for one in done.moved[:SHOWN]
        if one.moved == one.moved
    ]
    if moved:
        heads = ("image", "true", "first says", "second says", "moved")
        print_table(heads, moved, title="Where the map moved most: its energy that lies elsewhere")
    print_gate(done.gate)


def _mean(interval: "Interval") -> str:
    return f"{interval.mean:.3f}" if interval.images else "–"


def _signed(interval: "Interval") -> str:
    if not interval.images:
        return "–"
    return f"{interval.mean:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
