"""Where a command writes: told to be wrong before the work, not after hours of it."""

import errno
import os
from pathlib import Path


def check_folder(folder: Path) -> None:
    """Refuse a folder that is a file, or where nothing may be written; it need not be there yet.

    Raises:
        OSError: of the kind that writing there would raise.
    """
    there = next((p for p in (folder, *folder.parents) if os.path.lexists(p)), folder)
    if not there.is_dir():
        raise _error(errno.ENOTDIR, there)
    if not os.access(there, os.W_OK | os.X_OK):
        raise _error(errno.EACCES, there)


def _error(code: int, place: Path) -> OSError:
    return OSError(code, os.strerror(code), str(place))
