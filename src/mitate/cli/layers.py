"""mitate layers."""

from typing import Annotated

from cyclopts import Parameter

from mitate.cli.parsing import Json, size_of
from mitate.cli.tables import print_json, print_table


def layers(
    ref: str,
    /,
    *,
    size: Annotated[str | None, Parameter(name=["--size"])] = None,
    json: Json = False,
) -> int:
    """List the layers that a map can be made at, and which one `auto` takes.

    Args:
        ref: the classifier.
        size: input size, such as 224 or 128x256 (height x width); default: the classifier's own.
        json: print a list of objects.
    """
    from mitate.explain.layers import automatic_of, candidates
    from mitate.models.classifier import Classifier
    from mitate.models.trial import check_takes, probe

    classifier = Classifier.load(ref)
    height, width = size_of(size) if size else classifier.preprocessing.size
    check_takes(classifier, (height, width))
    image = probe(classifier, (height, width))
    found = candidates(classifier.network, image, read=classifier.read)
    chosen = automatic_of(found)
    entries = [
        {
            "name": layer.name,
            "type": layer.type_name,
            "channels": layer.grid.channels,
            "grid": f"{layer.grid.height}x{layer.grid.width}",
            "layout": layer.grid.layout,
            "auto": layer is chosen,
            "scores_depend_on_it": layer.counts,
        }
        for layer in found
    ]
    if json:
        print_json(entries)
        return 0
    rows = [
        [
            str(entry["name"]),
            str(entry["type"]),
            str(entry["channels"]),
            str(entry["grid"]),
            str(entry["layout"]),
            "auto" if entry["auto"] else "" if entry["scores_depend_on_it"] else "no gradient",
        ]
        for entry in entries
    ]
    print_table(("layer", "type", "channels", "grid", "layout", ""), rows)
    print(f"{len(rows)} layers at {height}x{width} px; an index in a name may count from the end.")
    return 0
