"""Small made pictures, class folders and tables."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def draw() -> Callable[..., Path]:
    """draw(path, shade): writes an 8 x 8 picture; pictures of one shade are the same file."""

    def draw(path: Path, shade: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (shade % 256, shade // 256 % 256, 99)
        Image.new("RGB", (8, 8), colour).save(path)
        return path

    return draw


@pytest.fixture
def tree(tmp_path: Path, draw: Callable[..., Path]) -> Callable[..., Path]:
    """tree({"train/rust": 3, "healthy": 2}): class folders with so many different pictures."""

    def tree(numbers: dict[str, int]) -> Path:
        shade = 0
        for folder, number in numbers.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for index in range(number):
                shade += 1
                draw(tmp_path / folder / f"{index}.png", shade)
        return tmp_path

    return tree


@pytest.fixture
def table(tmp_path: Path, draw: Callable[..., Path]) -> Callable[..., Path]:
    """table("path,label", "a.png,x"): a CSV, with the pictures that its first column names."""

    def table(*lines: str) -> Path:
        for shade, line in enumerate(lines[1:]):
            draw(tmp_path / line.split(",")[0], shade)
        path = tmp_path / "list.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return table
