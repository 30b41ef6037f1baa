"""mitate methods."""

from mitate.cli.parsing import Json
from mitate.cli.tables import print_json, print_table


def methods(*, json: Json = False) -> int:
    """List the map methods: family, needs, cost in forwards, and who published each.

    Args:
        json: print a list of objects.
    """
    from mitate.explain.methods import METHODS

    entries = [
        {
            "name": method.name,
            "family": method.family,
            "needs": method.looks_at,
            "cost": str(method.cost),
            "options": dict(method.options),
            "cite": method.cite,
            "summary": method.summary,
        }
        for method in METHODS.values()
    ]
    if json:
        print_json(entries)
        return 0
    columns = ("name", "family", "needs", "cost", "cite")
    print_table(columns, [[str(entry[column]) for column in columns] for entry in entries])
    print("Cost is an image's, in forwards; a forward with its backward counts 3.")
    return 0
