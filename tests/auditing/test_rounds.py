import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitate.auditing.rounds import Budget, images_a_round
from mitate.errors import UsageError


@pytest.mark.parametrize(
    ("words", "forwards", "seconds"),
    [
        ("50000", 50_000, None),
        (1234, 1234, None),
        ("200k", 200_000, None),
        ("1.5M", 1_500_000, None),
        ("2e5", 200_000, None),
        ("90s", None, 90),
        ("10min", None, 600),
        ("10 min", None, 600),
        ("0.5h", None, 1800),
    ],
)
def test_a_budget_is_of_forwards_or_of_time(words, forwards, seconds):
    assert Budget.of(words) == Budget(forwards, seconds)


def test_no_budget():
    assert Budget.of(None) is None


@pytest.mark.parametrize("words", ["", "0", "-5", "ten", "10 parsecs", "1e", "nan", "0s", "5K"])
def test_other_budgets_are_refused(words):
    with pytest.raises(UsageError, match="10min"):
        Budget.of(words)


def test_time_becomes_forwards_by_what_a_forward_takes():
    assert Budget(seconds=10).in_forwards(0.01) == pytest.approx(1000)
    assert Budget(forwards=7).in_forwards(0.01) == 7


def test_without_a_budget_everyone_sees_everything():
    assert images_a_round([3, 3, 3], 9, 64, None) == [(3, 64)]


def test_each_round_halves_the_contenders_and_has_an_equal_share():
    # 8 contenders of 10 forwards and controls of 20: an image of everyone costs 100.
    assert images_a_round([10] * 8, 20, 1000, 3000) == [(8, 10), (4, 16), (2, 26)]


def test_what_a_round_cannot_spend_goes_to_the_next():
    assert images_a_round([10] * 4, 0, 20, 800) == [(4, 10), (2, 10)]


def test_the_first_round_reaches_for_six_images():
    assert images_a_round([10] * 8, 20, 1000, 700)[0] == (8, 6)
    with pytest.raises(UsageError, match="6 images of 8 contenders and the controls need 600"):
        images_a_round([10] * 8, 20, 1000, 599)


def test_fewer_images_than_six_are_all_asked_for():
    assert images_a_round([10, 10], 0, 3, 60) == [(2, 3)]


@given(
    st.lists(st.floats(1, 1000), min_size=1, max_size=20),
    st.floats(0, 1000),
    st.integers(1, 300),
    st.floats(1, 1e7),
)
def test_no_plan_costs_more_than_its_budget(costs, floor, images, budget):
    try:
        plan = images_a_round(costs, floor, images, budget)
    except UsageError:
        assert budget < min(6, images) * (sum(costs) + floor)
        return
    dearest = sorted(costs, reverse=True)
    spent = sum(new * (sum(dearest[:alive]) + floor) for alive, new in plan)
    assert spent <= budget * (1 + 1e-9)
    assert plan[0][0] == len(costs)
    assert sum(new for _, new in plan) <= images
    assert [alive for alive, _ in plan] == sorted((alive for alive, _ in plan), reverse=True)
