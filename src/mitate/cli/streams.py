"""Standard output and standard error whose reader may go away, as in `mitate methods | head`."""

import io
import os
import sys
from pathlib import Path
from typing import TextIO


class PatientStream(io.TextIOWrapper):
    """Text to a pipe; once nobody reads it any more it goes nowhere, and the work goes on."""

    def write(self, text: str, /) -> int:
        """Write, or do as if."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._to_nowhere()
            return len(text)

    def flush(self) -> None:
        """Flush, or do as if."""
        try:
            super().flush()
        except BrokenPipeError:
            self._to_nowhere()

    def _to_nowhere(self) -> None:
        """What is still in the buffer is flushed there too, at the exit of the program."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def be_patient() -> None:
    """Let the program's streams outlive their readers, and spell out what they cannot spell."""
    sys.stdout, sys.stderr = _patient(sys.stdout), _patient(sys.stderr)


def _patient(stream: TextIO | None) -> TextIO:
    if stream is None:  # closed from the start
        return Path(os.devnull).open("w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # another program's own
    return PatientStream(
        stream.buffer,
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
