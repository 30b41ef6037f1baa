import pytest

from mitate.data.wording import counted, some_of


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "image", "0 images"), (1, "class", "1 class"), (2000, "class", "2,000 classes")],
)
def test_counted(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_some_of() -> None:
    assert some_of([]) == ""
    assert some_of(["a", "b", "c"]) == "a, b, c"
    assert some_of(list("abcde")) == "a, b, c and 2 more"
