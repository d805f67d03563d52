"""Real servers on loopback: SeaweedFS, a store with disks and signatures, and moto, which is quick and checks little.

Each runs as a process group of its own that dies with whoever started it, however that ends. Ports are free ones;
what another process takes between the choice and the start makes the start fail, which is tried again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
KEY, SECRET, REGION = "casckptkey", "casckptsecret123", "us-east-1"
READER_KEY, READER_SECRET = "readerkey", "readersecret123"
"""An identity of SeaweedFS that may read and list only."""
COMMON = "casckpt-tests"
"""The bucket that every server has from the start."""
DEAD = "http://127.0.0.1:1"
"""Nobody listens there."""
_TRIES = 3
_START_S = 60.0
# Runs before the server in its process: a killed test run must leave no server behind. 1 is PR_SET_PDEATHSIG.
_DIE_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    endpoint: str
    pid: int

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    def client(self, key: str = KEY, secret: str = SECRET) -> Any:
        """boto3's client: written by others, so what it sees is what is there."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name=REGION,
            config=Config(
                retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, connect_timeout=2, read_timeout=20
            ),
        )


@contextlib.contextmanager
def running(name: str, folder: Path) -> Iterator[Server]:
    """A server that takes objects, its files in `folder`.

    It ends by SIGKILL, since SeaweedFS takes 8 s to end politely.

    Raises:
        RuntimeError: it did not start; with the end of what it said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in reversed(range(_TRIES)):
        port = free_ports(1)[0]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _DIE_WITH_PARENT, *COMMANDS[name](folder, port)],
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
                env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
            )
        server = Server(name, f"http://127.0.0.1:{port}", process.pid)
        try:
            if _is_ready(server, process):
                yield server
                return
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if not left:
            raise RuntimeError(f"{name} did not start:\n{(folder / 'log').read_text(errors='replace')[-3000:]}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _weed(folder: Path, port: int) -> Sequence[str]:
    identities = {
        "identities": [
            _identity("casckpt", KEY, SECRET, ["Admin", "Read", "Write", "List", "Tagging"]),
            _identity("reader", READER_KEY, READER_SECRET, ["Read", "List"]),
        ]
    }
    (folder / "s3.json").write_text(json.dumps(identities))
    names = ("master", "volume", "filer")
    ports = free_ports(2 * len(names) + 1)
    options = [f"-{name}.port={number}" for name, number in zip(names, ports[:3], strict=True)]
    options += [f"-{name}.port.grpc={number}" for name, number in zip(names, ports[3:6], strict=True)]
    return [
        *(str(BIN / "weed"), "-logtostderr=true", "-v=0", "server", f"-dir={folder}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", *options),
        *(f"-s3.port={port}", f"-s3.port.grpc={ports[6]}", f"-s3.config={folder / 's3.json'}"),
        *("-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-master.volumeSizeLimitMB=512", "-master.volumePreallocate=false"),
        *("-master.electionTimeout=1s", "-master.heartbeatInterval=200ms", "-volume.max=0", "-volume.minFreeSpace=1"),
        # Relative, since the path of a socket has at most 107 bytes and those of temporary folders are long.
        *("-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"),
    ]


def _identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, Any]:
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}


def _moto(folder: Path, port: int) -> Sequence[str]:
    return [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]


COMMANDS: dict[str, Callable[[Path, int], Sequence[str]]] = {"weed": _weed, "moto": _moto}


def _is_ready(server: Server, process: subprocess.Popen[bytes]) -> bool:
    """Whether a bucket can be made and an object put into it; False if the server ended before."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = server.client()
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        # A socket is asked first: boto3 warms up for 50 ms of processor time whenever it is refused.
        with contextlib.suppress(OSError, BotoCoreError, ClientError):
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                client.create_bucket(Bucket=COMMON)
            client.put_object(Bucket=COMMON, Key="ready", Body=b"x")
            return True
        time.sleep(0.05)
    return False
