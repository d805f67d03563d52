"""Servers that start when the first test asks for them, once for each process of tests; they end with it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.folders import ram_folder
from tests.remote.buckets import Bucket
from tests.remote.commands import Commands, Scene, build_scenes, commands
from tests.remote.faultproxy import FaultProxy
from tests.remote.servers import COMMON, DEAD, Server, running

_numbers = itertools.count(1)


@pytest.fixture(autouse=True, scope="session")
def without_credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No key, profile or metadata address of the caller's machine is used by any test."""
    empty = tmp_path_factory.mktemp("no-credentials")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "SSL_CERT_"))]:
            patch.delenv(name)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(empty / "credentials"))
        patch.setenv("AWS_CONFIG_FILE", str(empty / "config"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_METADATA_ENDPOINT", DEAD)
        yield


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SeaweedFS."""
    with running("weed", tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """moto, as a server."""
    with running("moto", tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def bucket(weed: Server) -> Bucket:
    """A place of its own on SeaweedFS: a prefix, since each bucket there takes files on disk of which few are had."""
    return Bucket(weed, COMMON, f"test-{next(_numbers)}/remote")


@pytest.fixture
def moto_bucket(moto: Server) -> Bucket:
    """A place of its own on moto."""
    return Bucket(moto, COMMON, f"test-{next(_numbers)}/remote")


@pytest.fixture
def moto_root(moto: Server) -> Bucket:
    """A new bucket of moto, without a prefix."""
    return Bucket.make(moto, f"bucket-{next(_numbers)}")


@pytest.fixture
def proxy(moto: Server) -> Iterator[FaultProxy]:
    """A proxy in front of moto: the same faults as before SeaweedFS, and quicker."""
    with FaultProxy(moto.port) as proxy:
        yield proxy


@pytest.fixture
def weed_proxy(weed: Server) -> Iterator[FaultProxy]:
    """A proxy in front of SeaweedFS, which checks signatures and checksums."""
    with FaultProxy(weed.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def casckpt_commands() -> Iterator[Commands]:
    """Real commands, in processes of their own."""
    with commands() as found:
        yield found


@pytest.fixture(scope="module")
def scenes() -> Iterator[dict[str, Scene]]:
    """Stores and remotes as commands find them."""
    with ram_folder() as folder:
        yield build_scenes(folder)


@pytest.fixture
def ram_path() -> Iterator[Path]:
    """A folder in RAM, where what a power loss takes is not asked."""
    with ram_folder() as folder:
        yield folder
