import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import mitate


def test_the_public_names_are_sorted_and_have_a_home():
    assert mitate.__all__ == sorted(mitate.HOMES)
    assert set(mitate.__all__) <= set(dir(mitate))


@pytest.mark.parametrize("name", mitate.__all__)
def test_every_public_name_can_be_imported_and_says_what_it_is(name):
    value = getattr(mitate, name)
    assert value.__name__ == name
    assert value.__module__ == mitate.HOMES[name]
    assert inspect.getdoc(value).splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("name", mitate.__all__)
def test_so_can_its_public_methods(name):
    for method, value in vars(getattr(mitate, name)).items():
        if not method.startswith("_") and (callable(value) or isinstance(value, property)):
            assert inspect.getdoc(value), f"{name}.{method}"


def test_no_other_name():
    with pytest.raises(AttributeError, match="no attribute 'Explainr'"):
        _ = mitate.Explainr


def test_the_version_is_that_of_the_package():
    assert mitate.__version__ == version("mitate")


def test_importing_it_is_light():
    code = "import mitate, sys; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
