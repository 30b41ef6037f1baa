import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

from mitate import imports
from mitate.errors import MissingExtraError


def python(code: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_torchvision_and_timm_come_with_their_submodules() -> None:
    assert imports.torchvision().__name__ == "torchvision"
    assert imports.torchvision("models").__name__ == "torchvision.models"
    assert imports.timm("data").__name__ == "timm.data"


def test_they_come_in_any_order_in_a_fresh_process() -> None:
    for first, second in (("timm", "torchvision"), ("torchvision", "timm")):
        code = (
            f"from mitate import imports; imports.{first}(); imports.{second}('models'); print(1)"
        )
        assert python(code) == "1"


def test_declaring_twice_is_harmless() -> None:
    code = """
from mitate import imports
imports.declare_missing_operators()
imports.declare_missing_operators()
import torchvision
imports.declare_missing_operators()
print(1)
"""
    assert python(code) == "1"


def test_nothing_heavy_comes_with_mitate_itself() -> None:
    code = """
import sys, mitate, mitate.imports, mitate.errors, mitate.progress
print([name for name in ("torch", "torchvision", "timm", "fastai", "rich") if name in sys.modules])
"""
    assert python(code) == "[]"


@pytest.mark.parametrize(
    ("package", "install"),
    [
        ("fastai", "pip install 'mitate[train]'"),
        ("sklearn", "pip install 'mitate[audit]'"),
        ("scipy", "pip install 'mitate[audit]'"),
    ],
)
def test_a_missing_extra_tells_how_to_get_it(monkeypatch, package: str, install: str) -> None:
    def absent(name: str) -> ModuleType:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return import_module(name)

    monkeypatch.setattr(imports.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError) as caught:
        getattr(imports, package)("vision")
    assert f"{package} is needed for this and is not installed" in str(caught.value)
    assert install in str(caught.value)


def test_a_module_missing_inside_an_extra_is_not_taken_for_the_extra(monkeypatch) -> None:
    def broken(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'numpy.core'", name="numpy.core")

    monkeypatch.setattr(imports.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match=r"numpy\.core"):
        imports.fastai()
