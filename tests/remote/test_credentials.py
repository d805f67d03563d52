"""Where credentials come from, that they are renewed, and that no secret of them is ever shown."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from casckpt.errors import CasckptError, RemoteDenied, UsageError
from casckpt.storage.addresses import Access, parse
from casckpt.storage.object import ServiceObjects
from casckpt.storage.objects import Outcome
from tests.remote.buckets import Bucket, set_keys
from tests.remote.faultproxy import FaultProxy
from tests.remote.servers import DEAD, KEY, READER_KEY, READER_SECRET, SECRET


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the files of the AWS configuration."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path


class Metadata:
    """An address that counts who asks it, and answers nobody."""

    def __init__(self) -> None:
        self.asked = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.asked += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    """The metadata address of a cloud, as far as the environment tells."""
    metadata = Metadata()
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", metadata.url)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    yield metadata
    metadata.close()


def profile(folder: Path, name: str, key: str = KEY, secret: str = SECRET) -> None:
    with (folder / "credentials").open("a") as file:
        file.write(f"[{name}]\naws_access_key_id={key}\naws_secret_access_key={secret}\n")


def test_keys_of_the_environment_are_used(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    assert bucket.objects().create("root/1", b"x") is Outcome.CREATED


def test_without_credentials_nothing_is_asked_and_the_ways_are_named(moto_bucket: Bucket, metadata: Metadata) -> None:
    objects = moto_bucket.objects()
    for ask in (lambda: objects.create("root/1", b"x"), lambda: objects.get("root/1", limit=1)):
        with pytest.raises(RemoteDenied, match="no credentials were found"):
            ask()
    assert metadata.asked == 0


def test_without_botocore_nothing_is_asked_either(
    moto_bucket: Bucket, metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("botocore.exceptions", "botocore.session"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RemoteDenied, match="no credentials were found"):
        list(moto_bucket.objects().list("root/"))
    with pytest.raises(UsageError, match=r"casckpt\[aws\]"):
        moto_bucket.objects(profile="work")
    assert metadata.asked == 0


def test_the_machines_own_credentials_are_asked_for_by_who_chose_them(moto_bucket: Bucket, metadata: Metadata) -> None:
    with pytest.raises(CasckptError):
        moto_bucket.objects(credentials="instance").get("root/1", limit=1)
    assert metadata.asked > 0


def test_a_profile_is_used_and_comes_before_the_environment(
    bucket: Bucket, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch, "wrong", "wrong")
    profile(configuration, "work")
    assert bucket.objects(profile="work").create("root/1", b"x") is Outcome.CREATED


def test_the_default_profile_is_used_where_the_environment_has_no_keys(
    bucket: Bucket, configuration: Path, metadata: Metadata
) -> None:
    profile(configuration, "default")
    assert bucket.objects().create("root/1", b"x") is Outcome.CREATED
    assert metadata.asked == 0


def test_a_profile_may_have_a_region(moto_bucket: Bucket, configuration: Path, proxy: FaultProxy) -> None:
    profile(configuration, "work")
    (configuration / "config").write_text("[profile work]\nregion=eu-central-1\n")
    moto_bucket.objects(proxy.endpoint, profile="work", region="").create("root/1", b"x")
    assert "/eu-central-1/s3/" in proxy.log[-1].headers["authorization"]
    moto_bucket.objects(proxy.endpoint, profile="work", region="us-west-2").create("root/1", b"x")
    assert "/us-west-2/s3/" in proxy.log[-1].headers["authorization"]


def test_a_profile_that_is_not_there_is_named(moto_bucket: Bucket, configuration: Path) -> None:
    with pytest.raises(UsageError, match="work"):
        moto_bucket.objects(profile="work")


def program(folder: Path, expires: str) -> Path:
    """A profile whose credentials a program gives; a file that has a line for each time that it was asked."""
    calls = folder / "calls"
    answer = (
        f'{{"Version": 1, "AccessKeyId": "{KEY}", "SecretAccessKey": "{SECRET}", '
        f'"SessionToken": "token", "Expiration": "{expires}"}}'
    )
    script = folder / "program.sh"
    script.write_text(f"#!/bin/sh\necho asked >> {calls}\necho '{answer}'\n")
    script.chmod(0o700)
    (folder / "config").write_text(f"[profile work]\ncredential_process={script}\n")
    return calls


def test_a_program_is_asked_once_while_what_it_gave_is_good(
    moto_bucket: Bucket, configuration: Path, proxy: FaultProxy
) -> None:
    calls = program(configuration, "2099-01-01T00:00:00Z")
    objects = moto_bucket.objects(proxy.endpoint, profile="work")
    for number in range(5):
        objects.create(f"root/{number}", b"x")
        objects.get(f"root/{number}", limit=1)
    assert calls.read_text() == "asked\n"
    assert proxy.log[-1].headers["x-amz-security-token"] == "token"


@pytest.mark.parametrize("status", [400, 403])
def test_expired_credentials_are_renewed_once(
    status: int, moto_bucket: Bucket, configuration: Path, proxy: FaultProxy
) -> None:
    calls = program(configuration, "2099-01-01T00:00:00Z")
    objects = moto_bucket.objects(proxy.endpoint, profile="work")
    objects.create("root/1", b"x")
    proxy.add("status", method="PUT", status=status, code="ExpiredToken")
    assert objects.create("root/2", b"x") is Outcome.CREATED
    assert calls.read_text() == "asked\n" * 2
    proxy.add("status", method="GET", status=status, code="ExpiredToken", times=2)
    with pytest.raises(RemoteDenied, match="have expired"):
        objects.get("root/1", limit=1)
    assert [one.status for one in proxy.requests("GET")] == [status, status]


def test_expired_keys_of_the_environment_are_looked_for_again(
    moto_bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch, "old", "old")
    objects = moto_bucket.objects(proxy.endpoint)
    set_keys(monkeypatch, "new", "new")
    proxy.add("status", status=403, code="ExpiredToken")
    list(objects.list("root/"))
    assert ["Credential=old" in one.headers["authorization"] for one in proxy.log] == [True, False]


def test_who_may_only_read_is_told_so(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    bucket.objects().create("root/1", b"x")
    set_keys(monkeypatch, READER_KEY, READER_SECRET)
    objects = bucket.objects()
    assert objects.get("root/1", limit=1) == b"x"
    with pytest.raises(RemoteDenied, match="AccessDenied"):
        objects.create("root/2", b"x")


def test_wrong_keys_are_refused_and_never_shown(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, secret in (("AKIAWRONGWRONGWRONG1", SECRET), (KEY, "wrong-secret-wrong")):
        set_keys(monkeypatch, key, secret)
        objects = bucket.objects()
        with pytest.raises(RemoteDenied) as denied:
            objects.create("root/1", b"x")
        shown = f"{denied.value!r} {denied.value.facts} {denied.value.__cause__} {objects!r} {vars(objects)!r}"
        for secret_text in ("WRONG", SECRET, "wrong-secret"):
            assert secret_text not in shown
        assert denied.value.__suppress_context__


def test_public_buckets_are_read_without_a_signature(bucket: Bucket, weed_proxy: FaultProxy) -> None:
    objects = bucket.objects(weed_proxy.endpoint, credentials="none")
    with pytest.raises(RemoteDenied):
        objects.get("root/1", limit=1)
    assert "authorization" not in weed_proxy.log[-1].headers


def test_nothing_travels_without_encryption_unless_the_address_says_so(
    moto_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_bucket.server.endpoint)
    address = parse(moto_bucket.url)
    with pytest.raises(RemoteDenied, match="without encryption"):
        ServiceObjects(address, Access()).create("root/1", b"x")
    assert ServiceObjects(address, Access(allow_http=True)).create("root/1", b"x") is Outcome.CREATED


def test_the_environment_does_not_lead_a_remote_elsewhere(
    moto_bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch)
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, DEAD)
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "crc64nvme")
    monkeypatch.setenv("AWS_BUCKET", "elsewhere")
    objects = moto_bucket.objects(proxy.endpoint)
    assert objects.create("root/1", b"x") is Outcome.CREATED
    assert objects.create("root/1", b"y") is Outcome.EXISTS
    assert moto_bucket.contents() == {"root/1": b"x"}
    assert "x-amz-checksum-sha256" in proxy.log[0].headers


def test_google_credentials_are_not_asked_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RemoteDenied, match="no credentials were found"):
        ServiceObjects(parse("gs://bucket"), Access())
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing"))
    with pytest.raises(RemoteDenied, match="service account file"):
        ServiceObjects(parse("gs://bucket"), Access())


def test_azure_credentials_are_not_asked_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    with pytest.raises(RemoteDenied, match="no credentials were found"):
        ServiceObjects(parse("az://container"), Access()).get("root/1", limit=1)
