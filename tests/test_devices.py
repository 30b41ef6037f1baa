"""Devices by name, and everything on a second one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tiny
from mitate.errors import UsageError
from mitate.models.devices import find_device

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", "", "cpu:x"])
def test_what_is_no_device_is_told(name):
    with pytest.raises(UsageError, match=r"cannot be used here \(.+\): name another, such as cpu"):
        find_device(name)


@pytest.mark.parametrize("there", [False, True])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert find_device() == torch.device("cuda" if there else "cpu")


def test_a_classifier_moves():
    classifier = tiny.classifier()
    assert classifier.to("cpu") is classifier
    assert classifier.to(torch.device("cpu")).device.type == "cpu"


@pytest.mark.parametrize(
    ("chosen", "doubles"),
    [
        ("not long", "1"),
        pytest.param("long", "1", marks=pytest.mark.long),
        pytest.param("not long", "0", marks=pytest.mark.long),
        pytest.param("long", "0", marks=pytest.mark.long),
    ],
)
def test_everything_stays_on_a_second_device(chosen, doubles):
    """In a process of its own: a device is registered once, and for good."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "no:xdist", "-m", chosen, str(HERE / "on_second.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parent,
        env={**os.environ, "SECOND_DOUBLES": doubles},
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout
