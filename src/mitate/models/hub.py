"""Asking a model hub without waiting a minute where there is no network."""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import torch

from mitate.errors import ClassifierError
from mitate.sharing import Together

PATIENCE = 3.0


@contextmanager
def _impatient() -> Iterator[None]:
    from huggingface_hub import constants

    logger = logging.getLogger("huggingface_hub")
    level, offline = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.CRITICAL)
    constants.HF_HUB_OFFLINE = offline or not reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        logger.setLevel(level)
        constants.HF_HUB_OFFLINE = offline


_together = Together(_impatient)


def impatient_hub() -> AbstractContextManager[None]:
    """Read only the hub's cache where its host cannot be reached, and keep its retries quiet.

    The switch is the hub client's own and holds for the whole process while the context is open,
    in all threads.
    """
    return _together()


def fetch_repository(name: str, files: Sequence[str]) -> Path:
    """Bring files of a Hugging Face repository into the hub's cache, and give the folder there.

    Raises:
        ClassifierError: they are neither in the cache nor to be had; names the two ways out.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        with impatient_hub():
            return Path(snapshot_download(name, allow_patterns=list(files)))
    except RepositoryNotFoundError as exc:
        raise ClassifierError(
            f"the hub has no repository {name} that you may read: check the name, or log in with "
            "`hf auth login`"
        ) from exc
    except Exception as exc:  # the hub's client raises whatever its HTTP library raises
        raise ClassifierError(
            f"the files of hf:{name} cannot be fetched here ({type(exc).__name__}). Two ways out: "
            "download the repository elsewhere and name the folder, hf:FOLDER; or run once where "
            "the hub can be reached, so that they lie in its cache"
        ) from exc


def check_download(url: str) -> None:
    """Stop at once where a file is neither in torch's cache nor to be had.

    Raises:
        ConnectionError: its host cannot be reached; torch itself would wait for minutes.
    """
    address = urlsplit(url)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(address.path).name
    if not cached.exists() and not reachable(url):
        raise ConnectionError(f"{address.hostname} cannot be reached")


def reachable(endpoint: str) -> bool:
    """Whether a host answers within a few seconds; a proxy is trusted to reach it."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True
    address = urlsplit(endpoint)
    try:
        with socket.create_connection((address.hostname, address.port or 443), timeout=PATIENCE):
            return True
    except OSError:
        return False
