"""What every test may use: the real photos beside the checkout, where they are."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos and weights; skips with a word where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real photos and weights are not beside this checkout")
    return SHARED
