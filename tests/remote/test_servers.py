"""The servers of the tests are what they seem: they end with the tests, and the strict one is strict."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.remote.servers import COMMON, KEY, Server, running

STARTER = """
import os, pathlib, signal, sys
from tests.remote.servers import running
with running("moto", pathlib.Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_test_run_leaves_no_server_behind(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    starter = subprocess.run(
        [sys.executable, "-c", STARTER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert starter.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while is_running(int(starter.stdout)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(int(starter.stdout))


def test_a_server_that_does_not_start_fails_with_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.remote import servers

    broken = [sys.executable, "-c", "raise SystemExit('no disk')"]
    monkeypatch.setitem(servers.COMMANDS, "broken", lambda *_: broken)
    with pytest.raises(RuntimeError, match="no disk"), running("broken", tmp_path):
        pass


def test_the_main_server_checks_who_asks(weed: Server) -> None:
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        weed.client(KEY, "wrong").list_objects_v2(Bucket=COMMON)
