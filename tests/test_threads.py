"""The threads that tests run on: the fixture of tests/conftest.py."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch

import tiny

TESTS = Path(__file__).parent
AT_THE_START = torch.get_num_threads()  # tests are collected before the first of them runs


@pytest.fixture(scope="module")
def packages(request):
    """The folders on one thread, as tests/conftest.py names them."""
    plugins = request.config.pluginmanager.get_plugins()
    places = {getattr(plugin, "__file__", None): plugin for plugin in plugins}
    return places[str(TESTS / "conftest.py")].ONE_THREAD


def test_no_folder_on_one_thread_is_gone(packages):
    assert not [name for name in packages if not list((TESTS / name).glob("test_*.py"))]


def test_the_tests_of_these_folders_leave_the_threads_to_others():
    assert torch.get_num_threads() == AT_THE_START


def test_they_are_given_back_after_a_failure_too():
    with suppress(KeyboardInterrupt), tiny.one_thread():
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt
    assert torch.get_num_threads() == AT_THE_START
