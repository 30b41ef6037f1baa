"""The program in this process, and a small classifier and photos for it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tiny
from mitate.cli.app import run


@dataclass(frozen=True)
class Outcome:
    """What a run of the program came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out, parse_constant=pytest.fail)

    @property
    def error(self) -> str:
        """The one line that starts with error; there is no traceback."""
        assert "Traceback" not in self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert "a fault of mitate" not in line
        return line


@pytest.fixture
def mitate(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """mitate("layers", ref, "--json"): run the program."""

    def mitate(*words: object) -> Outcome:
        capsys.readouterr()
        code = run([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return mitate


@pytest.fixture(scope="session")
def ref(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier folder of three classes."""
    return tiny.classifier().save(tmp_path_factory.mktemp("saved") / "分類 器").folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders with two photos each."""
    return tiny.photos(tmp_path / "photos", {"blast": 2, "いもち病": 2})
