"""The contract over Azure's protocol: an optional job, since the emulator comes from npm and not from PyPI.

npm install azurite
AZURITE=node_modules/.bin/azurite-blob python -m pytest tests/remote/test_azurite.py
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import itertools
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from casckpt.errors import RemoteDenied, RemoteNotFound
from casckpt.storage.addresses import Access, parse
from casckpt.storage.fitness import Fitness, probe
from casckpt.storage.object import ServiceObjects
from casckpt.storage.objects import Objects
from tests.remote.servers import free_ports

pytest.register_assert_rewrite("tests.remote.objects_contract")

from tests.remote.objects_contract import Look, ObjectsContract  # noqa: E402

PROGRAM = os.environ.get("AZURITE", "")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="AZURITE does not name the emulator")

# Those of every emulator, published by its makers.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-08-06"
CONTAINER = "casckpt"
_numbers = itertools.count(1)


class Azurite:
    """A running emulator, and a client of our own that signs each request by hand."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"

    def ask(self, method: str, path: str, query: str = "") -> bytes:
        """One request; `query` is `name=value` pairs, sorted."""
        date = formatdate(usegmt=True)
        headers = f"x-ms-date:{date}\nx-ms-version:{VERSION}\n"
        named = "".join("\n" + pair.replace("=", ":", 1) for pair in query.split("&") if pair)
        signed = f"{method}\n\n\n\n\n\n\n\n\n\n\n\n{headers}/{ACCOUNT}/{ACCOUNT}/{path}{named}"
        digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
        url = f"{self.endpoint}/{path}" + ("?" + query if query else "")
        request = urllib.request.Request(url, method=method)
        request.add_header("x-ms-date", date)
        request.add_header("x-ms-version", VERSION)
        request.add_header("Authorization", f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: bytes = answer.read()
        return found


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    port = free_ports(1)[0]
    command = [
        PROGRAM,
        "--blobPort",
        str(port),
        "--location",
        str(tmp_path_factory.mktemp("azurite")),
        "--silent",
        "--disableTelemetry",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    azurite, deadline = Azurite(port), time.monotonic() + 30
    try:
        while True:
            try:
                azurite.ask("PUT", CONTAINER, "restype=container")
                break
            except urllib.error.HTTPError:
                raise
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield azurite
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    return f"test-{next(_numbers)}/remote"


def opened(azurite: Azurite, prefix: str, container: str = CONTAINER) -> ServiceObjects:
    return ServiceObjects(parse(f"az://{container}/{prefix}"), Access(endpoint=azurite.endpoint))


class TestAzurite(ObjectsContract):
    @pytest.fixture
    def objects(self, azurite: Azurite, prefix: str) -> Objects:
        return opened(azurite, prefix)

    @pytest.fixture
    def look(self, azurite: Azurite, prefix: str) -> Look:
        def look() -> dict[str, bytes]:
            query = f"comp=list&prefix={prefix}/&restype=container"
            names = re.findall(r"<Name>([^<]+)</Name>", azurite.ask("GET", CONTAINER, query).decode())
            return {name.removeprefix(f"{prefix}/"): azurite.ask("GET", f"{CONTAINER}/{name}") for name in names}

        return look

    @pytest.fixture
    def others(self, azurite: Azurite, prefix: str) -> list[Objects]:
        return [opened(azurite, prefix) for _ in range(4)]

    def test_it_is_fit_and_a_missing_container_is_told(self, azurite: Azurite, prefix: str) -> None:
        assert probe(opened(azurite, prefix)) == Fitness(creates_once=True, deletes=True, leftover="")
        with pytest.raises(RemoteNotFound):
            probe(opened(azurite, prefix, "missing"))

    def test_a_wrong_key_is_denied_and_not_shown(
        self, azurite: Azurite, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = base64.b64encode(b"wrong" * 12).decode()
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", wrong)
        with pytest.raises(RemoteDenied) as denied:
            opened(azurite, prefix).create("root/1", b"x")
        assert wrong not in f"{denied.value!r} {denied.value.facts}"
