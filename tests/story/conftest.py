import pytest

import tiny
from mitate.story import photos, story


@pytest.fixture
def short(monkeypatch):
    """A story of six photos a class and one epoch a round."""
    sizes = {"TRAIN": 4, "VALID": 2, "PIXELS": 64, "EPOCHS": 1, "ARGUMENTS": tiny.ARGUMENTS}
    for name, value in sizes.items():
        for module in (photos, story):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    with tiny.one_thread():
        yield
