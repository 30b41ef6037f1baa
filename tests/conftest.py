"""What every test may use; shapes are checked at run time in all of mitate."""

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import jaxtyping
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `oracles`, `tiny` and `typechecking`
# Before the first import of mitate, or what is imported already goes unchecked.
jaxtyping.install_import_hook("mitate", "typechecking.checked")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

TESTS = Path(__file__).parent
SHARED = TESTS.parents[1] / "shared"
# Small networks run fastest on one thread, above all where several suites share a machine.
ONE_THREAD = ("auditing", "cli", "docs", "explain", "jobs", "models", "training", "view")


@pytest.fixture(autouse=True, scope="module")
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """One thread in these folders; every other test has the threads of any program."""
    import tiny

    folder = request.path.relative_to(TESTS).parts[0]
    with tiny.one_thread() if folder in ONE_THREAD else nullcontext():
        yield


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """What a test draws without a generator of its own is the same on every run, in any order."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos and weights; skips with a word where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real photos and weights are not beside this checkout")
    return SHARED


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No run-time type check, as for users: for tests of what they are told about a wrong type."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
