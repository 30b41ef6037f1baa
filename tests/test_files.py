import csv
import os
import stat

import pytest

from mitate.files import unfinished, write_bytes, write_csv, write_text


def test_text_is_utf_8_and_half_characters_are_spelt_out(tmp_path):
    path = write_text(tmp_path / "a.txt", "一\udce9")
    assert path.read_text(encoding="utf-8") == "一\\udce9"


@pytest.mark.parametrize("write", [write_bytes, lambda p, c: write_text(p, c.decode())])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch, write):
    path = write(tmp_path / "a", b"old")
    monkeypatch.setattr("pathlib.Path.replace", _fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["a"]


def _fail(*_):
    raise OSError("disk full")


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupted():
        with unfinished(tmp_path / "a") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="rights are POSIX's")
def test_a_file_has_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "usual").touch()
    path = write_bytes(tmp_path / "a", b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_table(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"名": "x, y", "n": None}, {"名": 'q"', "n": 2}])
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")  # by which Excel knows UTF-8
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [["名", "n"], ["x, y", ""], ['q"', "2"]]


def test_a_table_of_no_rows_is_no_file_and_no_old_one(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"a": 1}])
    assert write_csv(path, []) is None
    assert not path.exists()
