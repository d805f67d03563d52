"""From an address to objects that are retried, limited and counted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from casckpt.errors import RemoteNotFound, RemoteUnavailable, UsageError
from casckpt.storage.addresses import Access, parse
from casckpt.storage.limited import Limited
from casckpt.storage.metered import Metered
from casckpt.storage.objects import Outcome
from casckpt.storage.opening import open_objects
from casckpt.storage.retrying import Retrying
from tests.remote.buckets import Bucket, set_keys
from tests.remote.faultproxy import FaultProxy
from tests.remote.servers import DEAD


def test_a_folder_is_opened_by_its_path_and_counted(tmp_path: Path) -> None:
    objects, traffic = open_objects(parse(str(tmp_path)), Access())
    assert objects.create("root/1", b"abc") is Outcome.CREATED
    assert objects.get("root/1", limit=3) == b"abc"
    assert traffic.requests == {"put": 1, "get": 1}
    assert (traffic.up, traffic.down) == (3, 3)
    with pytest.raises(RemoteNotFound):
        open_objects(parse(f"{tmp_path}/missing"), Access())


def test_memory_of_one_name_is_one() -> None:
    first = open_objects(parse("memory:one"), Access()).objects
    first.create("root/1", b"abc")
    assert open_objects(parse("memory:one"), Access()).objects.size("root/1") == 3
    assert open_objects(parse("memory:other"), Access()).objects.size("root/1") is None
    assert open_objects(parse("memory:"), Access()).objects.size("root/1") is None


def test_every_try_is_counted(moto_bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    objects, traffic = open_objects(parse(moto_bucket.url), moto_bucket.access(proxy.endpoint))
    proxy.add("status", method="PUT")
    assert objects.create("root/1", b"abc") is Outcome.CREATED
    assert traffic.requests["put"] == len(proxy.requests("PUT")) == 2


def test_a_limit_stands_inside_the_retries() -> None:
    around = open_objects(parse("memory:"), Access(), limit_rate=1000).objects
    assert isinstance(around, Retrying)
    assert isinstance(around.objects, Limited)
    assert isinstance(around.objects.objects, Metered)


def test_a_service_that_is_not_there_is_told_after_the_last_try(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    objects, traffic = open_objects(parse("s3://bucket"), Access(endpoint=DEAD), tries=2)
    for ask in (lambda: objects.get("root/1", limit=1), lambda: objects.create("root/1", b"")):
        with pytest.raises(RemoteUnavailable, match="no connection"):
            ask()
    assert traffic.requests == {"get": 2, "put": 2}


def test_without_obstore_services_are_refused_and_folders_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match=r"casckpt\[s3\]"):
        open_objects(parse("s3://bucket"), Access())
    assert open_objects(parse(str(tmp_path)), Access()).objects.size("root/1") is None


def test_a_folder_loads_no_client_of_any_service(tmp_path: Path) -> None:
    code = (
        "import sys; from casckpt.storage.opening import open_objects; from casckpt.storage.addresses import *; "
        "open_objects(parse(sys.argv[1]), Access()); assert not {'obstore', 'botocore', 'boto3'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_child_of_fork_is_told_that_it_cannot_ask_and_does_not_wait_for_ever(
    moto_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch)
    objects = moto_bucket.objects()
    assert objects.size("root/1") is None
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            objects.size("root/1")
        except UsageError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        assert b"forked from one that has used remotes" in said.read()
    os.waitpid(pid, 0)
