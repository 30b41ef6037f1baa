"""Printing tables and plain data."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table to standard output, numbers to the right; in a pipe nothing is cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


def number(value: float | None) -> str:
    """Three decimals, or a dash for what could not be measured."""
    return "–" if value is None or value != value else f"{value:.3f}"


def print_json(data: Any) -> None:
    """Print plain data as JSON, which has null for what is no finite number."""
    print(json.dumps(_finite(data), ensure_ascii=False, indent=2, default=str, allow_nan=False))


def tell(words: str) -> None:
    """Say something to the person at the terminal, beside the results."""
    print(words, file=sys.stderr, flush=True)


def tell_what_to_know(notices: Iterable[str], failures: Iterable[str]) -> None:
    """Say what should be known of the results, and what was left out."""
    for line in notices:
        tell(f"note: {line}")
    for line in failures:
        tell(f"skipped: {line}")


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not isfinite(data) else data


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell in ("", "–")
