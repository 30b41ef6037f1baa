import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from importlib import import_module

import pytest
import torch

import tiny
from mitate.cli.app import COMMANDS, run
from mitate.errors import MitateWarning, UsageError

PROGRAM = [sys.executable, "-m", "mitate"]
HEAVY = ("torch", "timm", "torchvision", "matplotlib", "PIL", "numpy", "pydantic", "fastai")


def program(*words, **options):
    words = [str(word) for word in words]
    return subprocess.run(
        [*PROGRAM, *words], capture_output=True, text=True, encoding="utf-8", check=False, **options
    )


def test_help_is_light():
    code = (
        "import sys; from mitate.cli.app import run; code = run(['--help'])\n"
        f"print([name for name in {HEAVY} if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_summary_is_the_commands_own(command):
    function = getattr(import_module(f"mitate.cli.{command}"), command)
    assert inspect.getdoc(function).splitlines()[0] == COMMANDS[command]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(mitate, command):
    done = mitate(command, "--help")
    assert done.code == 0
    assert f"Usage: mitate {command}" in done.out
    assert COMMANDS[command][:40] in done.out
    assert "()" not in done.out


def test_every_parameter_is_explained(mitate):
    for command in COMMANDS:
        function = getattr(import_module(f"mitate.cli.{command}"), command)
        told = inspect.getdoc(function).partition("Args:")[2]
        for name in inspect.signature(function).parameters:
            assert f"    {name}: " in told, (command, name)


def test_the_version(mitate):
    from mitate import __version__

    assert mitate("--version").out.strip() == __version__


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explian"], 'Did you mean "explain"'),
        (["layers"], "layers needs REF: mitate layers --help"),
        (["explain", "a", "b.jpg"], "explain needs --out: mitate explain --help"),
        (["explain", "a", "b.jpg", "-o"], "-o"),
        (["layers", "a", "--sise", "3"], "--size"),
        (["train", "a", "-o", "b", "--epochs", "many"], "many"),
        (["train", "a", "-o", "b", "--augment", "much"], "much"),
    ],
)
def test_wrong_usage(mitate, words, said):
    done = mitate(*words)
    assert done.code == 2
    assert said in done.error
    assert done.out == ""


class TestOutcomes:
    @pytest.fixture
    def raising(self, mitate, monkeypatch):
        def raising(error, *words):
            def fail(*_, **__):
                raise error

            monkeypatch.setattr("mitate.checkup.checkup", fail)
            return mitate("doctor", *words)

        return raising

    def test_an_interruption(self, raising):
        done = raising(KeyboardInterrupt())
        assert (done.code, done.out, done.err) == (130, "", "interrupted\n")

    def test_a_usage_error(self, raising):
        done = raising(UsageError("two\nlines"))
        assert (done.code, done.error) == (2, "error: two lines")

    def test_an_error_of_the_system(self, raising):
        done = raising(OSError(28, "No space left on device", "a/b"))
        assert done.code == 1
        assert done.error.startswith("error: a/b: No space left on device: check")

    def test_a_full_device(self, raising):
        for fault in (
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            MemoryError(),
        ):
            done = raising(fault)
            assert done.code == 1
            assert done.error == (
                "error: the memory is full: give a smaller --batch-size, or --device cpu where a "
                "GPU's is"
            )

    def test_a_fault(self, raising):
        done = raising(ZeroDivisionError())
        assert done.code == 1
        assert done.err == (
            "error: ZeroDivisionError: (a fault of mitate; --traceback shows where)\n"
        )

    def test_the_traceback_is_shown_on_request(self, raising):
        done = raising(UsageError("wrong"), "--traceback")
        assert done.code == 2
        assert "Traceback" in done.err
        assert "in fail" in done.err
        assert done.err.splitlines()[-1] == "error: wrong"

    def test_only_mitates_warnings_are_notes_and_once(self, mitate, monkeypatch):
        def warn():
            for _ in range(2):
                warnings.warn("look\nhere", MitateWarning, stacklevel=1)
                warnings.warn("a library's", UserWarning, stacklevel=1)
            return []

        monkeypatch.setattr("mitate.checkup.checkup", warn)
        assert mitate("doctor").err == "note: look here\n"
        assert "a library's (" in mitate("doctor", "--traceback").err

    def test_a_run_leaves_the_filters_as_they_were(self):
        before = list(warnings.filters), warnings.showwarning
        run(["--version"])
        assert (list(warnings.filters), warnings.showwarning) == before


@pytest.fixture
def nobody():
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def into(stdout, stderr, *words):
    words = [str(word) for word in words]
    return subprocess.run([*PROGRAM, *words], stdout=stdout, stderr=stderr, check=False)


@pytest.mark.parametrize(
    "words", ["--help", "explain --help", "--version", "methods", "methods --json"]
)
def test_a_closed_pipe_is_no_error(nobody, words):
    done = into(nobody, subprocess.PIPE, *words.split())
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_work_goes_on_when_nobody_listens(nobody, ref, photos, tmp_path):
    """As in `mitate explain … 2>&1 | head -1`."""
    (photos / "blast" / "a text.jpg").write_text("no picture")
    done = into(nobody, nobody, "explain", ref, photos, "-o", tmp_path / "out")
    assert done.returncode == 3
    assert (tmp_path / "out" / "predictions.csv").is_file()
    assert into(nobody, nobody, "explian").returncode == 2


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_streams_that_are_closed_from_the_start(closed):
    code = f"import sys; sys.{closed} = None; from mitate.cli.app import main; main()"
    command = [sys.executable, "-c", code, "methods"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b"gradcam" in done.stdout) == (closed == "stderr")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("words", ["--version", "methods"])
def test_a_full_disk_is_told(words):
    with open("/dev/full", "wb") as full:
        done = into(full, subprocess.PIPE, words)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "error: No space left on device: check the disk, and where the output goes"
    ]


def test_names_that_the_terminal_cannot_spell(ref, photos, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = program("explain", ref, photos / "blast", "-o", tmp_path / "out", env=environment)
    assert done.returncode == 0, done.stderr
    assert "blast" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is POSIX's")
class TestInterrupted:
    def interrupt(self, log, *words, when):
        """Interrupt the program once something is so; its messages go to a file meanwhile."""
        with log.open("w") as messages:
            code = self._interrupted(messages, words, when)
        return code, log.read_text()

    def _interrupted(self, messages, words, when):
        process = subprocess.Popen(
            [*PROGRAM, *map(str, words)],
            stderr=messages,
            stdout=subprocess.DEVNULL,
            # A test run in the background of a shell ignores it, and so would this process.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            for _ in range(6000):
                if when() or process.poll() is not None:
                    break
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            return process.wait(timeout=60)
        finally:
            process.kill()

    def test_a_long_explain(self, ref, tmp_path):
        data = tiny.photos(tmp_path / "photos", {"blast": 300})
        out = tmp_path / "out"
        words = ("explain", ref, data, "-o", out, "-m", "scorecam")
        first = out / "sheet-001.png"
        code, err = self.interrupt(tmp_path / "log", *words, when=first.exists)
        assert code == 130
        assert "Traceback" not in err
        (last,) = (line for line in err.splitlines() if not line.startswith(("note", "expl")))
        assert re.fullmatch(rf"interrupted after \d+ of 300 photos: what .* is in {out}", last)
        assert (out / "predictions.csv").is_file()
        assert not [path for path in out.rglob("*") if path.name.startswith(".")]

    def test_an_audit(self, ref, tmp_path):
        data, out = tiny.photos(tmp_path / "photos", {"blast": 40}), tmp_path / "out"
        words = ("audit", ref, data, "-o", out, "--batch-size", 4)
        first = out / "parts" / "0000.npz"
        code, err = self.interrupt(tmp_path / "log", *words, when=first.exists)
        assert code == 130
        *_, last = err.splitlines()
        assert re.fullmatch(r"interrupted after \d+ parts?: the same command goes on .*", last)

    def test_training_over_a_finished_classifier(self, tmp_path):
        from mitate import Classifier

        out = tmp_path / "out"
        tiny.classifier().save(out)
        before = (out / "weights.safetensors").read_bytes()
        data = tiny.photos(tmp_path / "photos", {"a": 40, "b": 40})
        words = ("train", data, "-o", out, "--model", "test_convnext", "--weights", "none")
        words = (*words, "--size", 64, "--epochs", 5000)
        log = tmp_path / "log"
        code, err = self.interrupt(log, *words, when=lambda: "epoch 1/" in log.read_text())
        assert code == 130
        *_, last = err.splitlines()
        learnt = out / "interrupted"
        assert last.startswith("interrupted after ")
        assert f"what was learnt is in {learnt}; --weights {learnt}/weights.safetensors" in last
        assert "holds a classifier, which this one replaces once it is trained" in err
        assert "Traceback" not in err
        assert Classifier.load(out).class_names == tiny.NAMES
        assert (out / "weights.safetensors").read_bytes() == before
        assert len(list(out.iterdir())) == 3
        assert Classifier.load(learnt).class_names == ("a", "b")
        again = ("train", data, "-o", tmp_path / "again", "--model", "test_convnext")
        again = (*again, "--weights", learnt / "weights.safetensors", "--size", 64, "--epochs", 1)
        done = subprocess.run([*PROGRAM, *map(str, again)], capture_output=True, check=False)
        assert done.returncode == 0


def test_json_is_all_of_standard_output():
    found = {one["subject"]: one for one in json.loads(program("doctor", "--json").stdout)}
    assert found["torch"]["good"]
    assert found["torch"]["needed"]
