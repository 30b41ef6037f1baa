import numpy as np
import pytest

from mitate.auditing.parts import Parts
from mitate.auditing.values import Part

PLAN = {"metrics": ["energy"], "seed": 0}


def part(value=0.5):
    return Part(
        places=(0, 1),
        contenders=("gradcam a", "centre a"),
        metrics=("energy", "deletion"),
        values=np.array([[[value, np.nan], [0.2, 0.3]], [[0.1, 0.1], [0.4, 0.4]]]),
        empty=np.array([[False, True], [False, False]]),
        curves={"deletion": np.arange(12.0).reshape(2, 2, 3)},
        fractions={"deletion": np.array([0.0, 0.5, 1.0])},
        forwards=42.5,
        seconds=1.5,
    )


def same(first, second):
    for name in ("places", "contenders", "metrics", "forwards", "seconds"):
        assert getattr(first, name) == getattr(second, name)
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.empty, second.empty)
    for name in ("curves", "fractions"):
        assert getattr(first, name).keys() == getattr(second, name).keys()
        for key, array in getattr(first, name).items():
            np.testing.assert_array_equal(array, getattr(second, name)[key])
    return True


def test_a_part_is_read_as_it_was_written(tmp_path):
    Parts(tmp_path, PLAN).write(3, part())
    again = Parts(tmp_path, PLAN)
    assert again.found == 1
    assert same(again.read(3), part())
    assert again.read(2) is None


def test_parts_of_another_plan_are_gone_and_nothing_else(tmp_path):
    Parts(tmp_path, PLAN).write(0, part())
    np.savez(tmp_path / "0001.npz", mine=np.zeros(3))
    (tmp_path / "0002.npz").write_bytes(b"not a part")
    other = Parts(tmp_path, {**PLAN, "seed": 1})
    assert other.found == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001.npz", "0002.npz"]


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_damaged_part_is_measured_again(tmp_path, kept):
    parts = Parts(tmp_path, PLAN)
    parts.write(0, part())
    path = tmp_path / "0000.npz"
    path.write_bytes(path.read_bytes()[:kept])
    assert Parts(tmp_path, PLAN).read(0) is None


def test_rounds_are_agreed_on_once(tmp_path):
    assert Parts(tmp_path, PLAN).rounds(lambda: [(4, 8), (2, 16)]) == [(4, 8), (2, 16)]
    assert Parts(tmp_path, PLAN).rounds(lambda: [(9, 9)]) == [(4, 8), (2, 16)]
    other = Parts(tmp_path, {**PLAN, "seed": 1})
    assert other.rounds(lambda: [(9, 9)]) == [(9, 9)]


def test_without_a_folder_nothing_is_kept(tmp_path):
    parts = Parts(None, PLAN)
    parts.write(0, part())
    assert parts.read(0) is None
    assert parts.rounds(lambda: [(1, 1)]) == [(1, 1)]
    assert list(tmp_path.iterdir()) == []
