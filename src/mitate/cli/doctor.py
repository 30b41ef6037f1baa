"""mitate doctor."""

from mitate.cli.parsing import Json
from mitate.cli.tables import print_json, print_table


def doctor(*, json: Json = False) -> int:
    """Print versions, devices, what is missing and how to get it.

    Args:
        json: print a list of objects.
    """
    from mitate.checkup import checkup

    findings = checkup()
    if json:
        print_json([vars(finding) for finding in findings])
    else:
        rows = [[f.subject, "ok" if f.good else "missing", f.found, f.remedy] for f in findings]
        print_table(("what", "", "found", "what to do"), rows)
    return 0 if all(finding.good or not finding.needed for finding in findings) else 1
