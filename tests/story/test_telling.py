import numpy as np

from mitate.auditing.intervals import mean_interval
from mitate.story.telling import shown


def test_shares_in_words():
    assert shown(mean_interval(np.ones(8))) == "100.0 % (100.0 to 100.0)"
    assert shown(mean_interval(np.full(8, 0.125)), "+") == "+12.5 % (+12.5 to +12.5)"
