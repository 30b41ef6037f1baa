import logging
import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from mitate.models import hub
from mitate.models.hub import check_download, impatient_hub


@pytest.mark.parametrize("reachable", [True, False])
def test_the_hub_is_asked_only_where_it_can_be_reached(monkeypatch, reachable: bool) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "reachable", lambda endpoint: reachable)
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    with impatient_hub():
        assert reachable != constants.HF_HUB_OFFLINE
        assert logger.level == logging.CRITICAL
    assert constants.HF_HUB_OFFLINE is False
    assert logger.level == level


def test_who_is_offline_already_is_not_tested(monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "reachable", lambda endpoint: pytest.fail("asked"))
    with impatient_hub():
        assert constants.HF_HUB_OFFLINE


def test_the_switch_comes_back_after_an_exception(monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "reachable", lambda endpoint: False)
    with pytest.raises(KeyError), impatient_hub():
        raise KeyError
    assert constants.HF_HUB_OFFLINE is False


def test_reachability(monkeypatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert hub.reachable(f"http://127.0.0.1:{port}")
    assert not hub.reachable(f"http://127.0.0.1:{port}")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert hub.reachable("https://huggingface.co")


def test_a_download_is_tried_only_where_it_can_succeed(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(hub, "reachable", lambda endpoint: False)
    with pytest.raises(ConnectionError, match=r"example\.org cannot be reached"):
        check_download("https://example.org/models/a-1234.pth")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "a-1234.pth").touch()
    check_download("https://example.org/models/a-1234.pth")


def test_two_threads_leave_the_switch_as_it_was(monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "reachable", lambda endpoint: False)
    level = logging.getLogger("huggingface_hub").level
    first, second = impatient_hub(), impatient_hub()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert constants.HF_HUB_OFFLINE is True
    second.__exit__(None, None, None)
    assert constants.HF_HUB_OFFLINE is False
    assert logging.getLogger("huggingface_hub").level == level
