import csv
import os
import signal
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mitate.files import check_folder, unfinished, uninterrupted, write_bytes, write_csv, write_text


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


@pytest.fixture
def pythons_own_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("pythons_own_handler")
class TestUninterrupted:
    def test_an_interruption_waits(self):
        done = []

        @uninterrupted()
        def work():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest")

        with pytest.raises(KeyboardInterrupt):
            work()
        assert done == ["the rest"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_an_error_inside_goes_first(self):
        @uninterrupted()
        def work():
            signal.raise_signal(signal.SIGINT)
            _fail()

        with pytest.raises(OSError, match="disk full"):
            work()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_handler_of_the_user_is_left_alone(self):
        heard = []
        signal.signal(signal.SIGINT, lambda *_: heard.append("at once"))
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            assert heard == ["at once"]

    def test_other_threads_have_no_handlers(self):
        def work():
            with uninterrupted():
                return "done"

        with ThreadPoolExecutor() as pool:
            assert pool.submit(work).result() == "done"


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


class TestWhereResultsGo:
    def test_a_folder_that_is_not_there_yet_is_left_so(self, tmp_path):
        check_folder(tmp_path / "new" / "folder")
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder of the system's, of Linux")
    def test_a_folder_that_takes_nothing_whatever_its_rights_say(self):
        with pytest.raises(OSError, match="/proc"):
            check_folder(Path("/proc/new"))
