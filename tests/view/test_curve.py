import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitate.view.curve import HEIGHT, WIDTH, charts

number = st.floats(-1e6, 1e6) | st.sampled_from([float("nan"), float("inf")])


def points(line):
    return [tuple(map(float, point.split(","))) for point in line.points.split()]


def test_higher_values_stand_higher_and_later_epochs_further_right():
    loss, accuracy = charts(((1, 2.0, 3.0, 0.1), (2, 1.0, 2.5, 0.8)))
    assert [line.name for line in loss.lines] == ["training", "validation"]
    (x0, y0), (x1, y1) = points(accuracy.lines[0])
    assert x0 < x1
    assert y0 > y1


def test_ticks_are_round_and_enclose():
    _, accuracy = charts(((1, 1, 1, 0.1), (2, 1, 1, 0.93)))
    assert [words for _, words in accuracy.up] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


def test_one_epoch_and_none():
    assert charts(()) == ()
    assert len(charts(((1, 0.5, 0.5, 0.5),))) == 2


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 500), number, number, number), max_size=9))
def test_everything_stays_within_the_picture(curve):
    for chart in charts(curve):
        places = [place for line in chart.lines for place in points(line)]
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
        assert 2 <= len(chart.up) <= 9


@pytest.mark.parametrize("value", [0.0, 1e-12, 5e5, -3.0])
def test_flat_curves_are_drawn(value):
    assert len(charts(((1, value, value, value), (2, value, value, value)))) == 2
