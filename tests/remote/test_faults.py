"""A network and a service that fail: what the backend makes of it, and that another try gets over it.

The proxy stands in front of moto, which is quick; what only a server can refuse that checks is asked of SeaweedFS.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

import pytest

from casckpt.errors import CasckptError, RemoteDenied, RemoteUnavailable, RemoteUnfit, RemoteUntrusted
from casckpt.storage.object import ServiceObjects
from casckpt.storage.objects import Outcome
from casckpt.storage.retrying import Retrying
from tests.remote.buckets import Bucket, set_keys
from tests.remote.faultproxy import FaultProxy

DATA = bytes(range(256)) * 2000
"""Half a megabyte: several packets."""


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)


@pytest.fixture
def objects(moto_bucket: Bucket, proxy: FaultProxy) -> ServiceObjects:
    """Behind the proxy, holding `root/1`."""
    objects = moto_bucket.objects(proxy.endpoint, timeout_s=1)
    assert objects.create("root/1", DATA) is Outcome.CREATED
    proxy.clear()
    return objects


@pytest.fixture
def patient(objects: ServiceObjects) -> Retrying:
    """The same, tried again at once."""
    return Retrying(objects, sleep=lambda _: None)


READS: dict[str, tuple[Callable[[ServiceObjects | Retrying], object], object]] = {
    "get": (lambda objects: objects.get("root/1", limit=len(DATA)), DATA),
    "range": (lambda objects: objects.get("root/1", 5, 9, limit=4), DATA[5:9]),
    "ranges": (lambda objects: objects.get_ranges("root/1", [(5, 9), (1, 2)]), [DATA[5:9], DATA[1:2]]),
    "list": (lambda objects: [one.key for one in objects.list("root/")], ["root/1"]),
    "size": (lambda objects: objects.size("root/1"), len(DATA)),
    "delete": (lambda objects: objects.delete(["root/2"]), None),
}
BUSY = [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests"), (408, "RequestTimeout"), (502, "")]


@pytest.mark.parametrize(("status", "code"), BUSY)
@pytest.mark.parametrize("read", READS)
def test_a_busy_service_is_asked_again(
    read: str, status: int, code: str, objects: ServiceObjects, patient: Retrying, proxy: FaultProxy
) -> None:
    ask, wanted = READS[read]
    proxy.add("status", status=status, code=code)
    with pytest.raises(RemoteUnavailable):
        ask(objects)
    fault = proxy.add("status", times=3, status=status, code=code)
    assert ask(patient) == wanted
    assert fault.hits == 3


@pytest.mark.parametrize(("status", "code"), BUSY)
def test_a_create_that_a_busy_service_refused_is_sent_again(
    status: int, code: str, objects: ServiceObjects, patient: Retrying, proxy: FaultProxy, moto_bucket: Bucket
) -> None:
    proxy.add("status", method="PUT", times=2, status=status, code=code)
    assert patient.create("root/2", b"x") is Outcome.CREATED
    assert moto_bucket.contents()["root/2"] == b"x"


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("kind", ["reset", "lost"])
def test_a_broken_connection_is_made_again(
    read: str, kind: str, objects: ServiceObjects, patient: Retrying, proxy: FaultProxy
) -> None:
    ask, wanted = READS[read]
    proxy.add(kind)
    with pytest.raises(RemoteUnavailable):
        ask(objects)
    proxy.add(kind, times=2)
    assert ask(patient) == wanted


@pytest.mark.parametrize("orderly", [False, True])
@pytest.mark.parametrize("after", [0, 1, 200_000, len(DATA) - 1])
def test_a_part_never_passes_for_the_whole(
    after: int, orderly: bool, objects: ServiceObjects, patient: Retrying, proxy: FaultProxy
) -> None:
    proxy.add("cut", method="GET", after=after, orderly=orderly)
    with pytest.raises(RemoteUnavailable):
        objects.get("root/1", limit=len(DATA))
    proxy.add("cut", method="GET", after=after, orderly=orderly, times=2)
    assert patient.get("root/1", limit=len(DATA)) == DATA


def test_a_cut_listing_is_not_taken_for_a_short_one(
    objects: ServiceObjects, patient: Retrying, proxy: FaultProxy
) -> None:
    for orderly in (False, True):
        proxy.add("cut", method="GET", after=60, orderly=orderly)
        with pytest.raises(RemoteUnavailable):
            list(objects.list("root/"))
    proxy.add("cut", method="GET", after=60)
    assert [one.key for one in patient.list("root/")] == ["root/1"]


def test_bits_flipped_on_the_way_down_are_the_readers_to_find(objects: ServiceObjects, proxy: FaultProxy) -> None:
    proxy.add("corrupt_down", method="GET", after=1000)
    found = objects.get("root/1", limit=len(DATA))
    assert len(found) == len(DATA)
    assert found != DATA


def test_a_standstill_ends_after_the_limit(objects: ServiceObjects, patient: Retrying, proxy: FaultProxy) -> None:
    for ask in (
        lambda: objects.get("root/1", limit=len(DATA)),
        lambda: objects.size("root/1"),
        lambda: list(objects.list("root/")),
    ):
        fault, start = proxy.add("hold"), time.monotonic()
        with pytest.raises(RemoteUnavailable, match="in time"):
            ask()
        assert time.monotonic() - start < 5
        fault.release.set()


def test_an_upload_that_stands_still_ends_and_may_have_arrived(objects: ServiceObjects, proxy: FaultProxy) -> None:
    fault, start = proxy.add("hold", method="PUT"), time.monotonic()
    assert objects.create("root/2", b"x") is Outcome.UNKNOWN
    assert time.monotonic() - start < 5
    fault.release.set()


def test_a_large_upload_that_stands_still_ends_by_the_pace_of_those_before(
    objects: ServiceObjects, proxy: FaultProxy
) -> None:
    large = DATA * 10  # which would have 80 s on a line that nobody knows
    assert objects.create("root/2", large) is Outcome.CREATED
    fault, start = proxy.add("hold", method="PUT"), time.monotonic()
    assert objects.create("root/3", large) is Outcome.UNKNOWN
    assert time.monotonic() - start < 30
    fault.release.set()


def test_a_slow_upload_is_no_standstill(objects: ServiceObjects, proxy: FaultProxy, moto_bucket: Bucket) -> None:
    proxy.add("throttle", method="PUT", rate=len(DATA) // 2)
    start = time.monotonic()
    assert objects.create("root/2", DATA) is Outcome.CREATED
    assert time.monotonic() - start > 1.5  # longer than an answer may stand still
    assert moto_bucket.contents()["root/2"] == DATA


@pytest.mark.parametrize("kind", ["lost", "reset", "reset_up"])
def test_a_create_without_an_answer_is_unknown_until_it_is_asked_again(
    kind: str, objects: ServiceObjects, patient: Retrying, proxy: FaultProxy, moto_bucket: Bucket
) -> None:
    proxy.add(kind, method="PUT", after=1000)
    assert objects.create("root/2", DATA) is Outcome.UNKNOWN
    assert ("root/2" in moto_bucket.contents()) == (kind == "lost")
    proxy.add(kind, method="PUT", after=1000)
    assert patient.create("root/3", DATA) is (Outcome.EXISTS if kind == "lost" else Outcome.CREATED)
    assert moto_bucket.contents()["root/3"] == DATA


def test_a_late_write_changes_nothing_that_came_meanwhile(
    objects: ServiceObjects, proxy: FaultProxy, moto_bucket: Bucket
) -> None:
    late = proxy.add("ghost", method="PUT", delay=0.3)
    assert objects.create("root/2", b"late") is Outcome.UNKNOWN
    assert objects.create("root/2", b"meanwhile") is Outcome.CREATED
    requests = proxy.requests("PUT")
    deadline = time.monotonic() + 10
    while not requests[0].status and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (late.hits, requests[0].status) == (1, 412)
    assert moto_bucket.contents()["root/2"] == b"meanwhile"


def test_a_create_delivered_twice_says_that_it_exists(
    objects: ServiceObjects, proxy: FaultProxy, moto_bucket: Bucket
) -> None:
    proxy.add("twice", method="PUT")
    assert objects.create("root/2", b"x") is Outcome.EXISTS
    assert moto_bucket.contents()["root/2"] == b"x"


def test_a_conflict_alone_does_not_mean_that_it_exists(
    objects: ServiceObjects, patient: Retrying, proxy: FaultProxy
) -> None:
    proxy.add("status", method="PUT", times=2, status=409, code="ConditionalRequestConflict")
    with pytest.raises(RemoteUnavailable):
        objects.create("root/2", b"x")
    assert patient.create("root/2", b"x") is Outcome.CREATED
    proxy.add("status", method="PUT", status=409, code="ConditionalRequestConflict")
    assert objects.create("root/2", b"x") is Outcome.EXISTS


REFUSALS: list[tuple[int, str, type[CasckptError], str]] = [
    (403, "AccessDenied", RemoteDenied, "AccessDenied"),
    (401, "Unauthorized", RemoteDenied, "401"),
    (403, "RequestTimeTooSkewed", RemoteDenied, "clock"),
    (400, "InvalidRequest", RemoteDenied, "InvalidRequest"),
    (301, "PermanentRedirect", RemoteUnfit, "region"),
    (400, "AuthorizationHeaderMalformed", RemoteUnfit, "region"),
    (501, "NotImplemented", RemoteUnfit, "conditional writes"),
]


@pytest.mark.parametrize(("status", "code", "error", "says"), REFUSALS)
def test_a_refusal_says_what_to_do_and_is_not_repeated(
    status: int, code: str, error: type[CasckptError], says: str, patient: Retrying, proxy: FaultProxy
) -> None:
    proxy.add("status", times=99, status=status, code=code)
    for ask in (lambda: patient.create("root/2", b"x"), lambda: patient.get("root/1", limit=len(DATA))):
        proxy.log.clear()
        with pytest.raises(error) as raised:
            ask()
        assert says in str(raised.value)
        assert "s3://" in str(raised.value)
        assert len(proxy.log) == 1


def rewriting(
    pattern: bytes, with_: bytes, body: bytes | None = None
) -> Callable[[bytes, bytes, bytes], tuple[bytes, bytes]]:
    """A change of the answer's head; its body is given anew or stays."""

    def change(_: bytes, head: bytes, old: bytes) -> tuple[bytes, bytes]:
        assert re.search(pattern, head)
        return re.sub(pattern, with_, head), old if body is None else body

    return change


def test_a_length_that_lies_is_refused_before_it_is_in_memory(objects: ServiceObjects, proxy: FaultProxy) -> None:
    huge = rewriting(rb"(?i)content-length: \d+", b"Content-Length: 99999999999")
    proxy.add("rewrite", method="GET", change=huge)
    with pytest.raises(RemoteUntrusted, match="more than"):
        objects.get("root/1", limit=len(DATA))
    proxy.add("rewrite", method="GET", change=huge)
    with pytest.raises((RemoteUntrusted, RemoteUnavailable)):
        objects.get("root/1", 0, 4, limit=4)


def test_another_part_than_was_asked_for_is_refused(objects: ServiceObjects, proxy: FaultProxy) -> None:
    for found in (b"bytes 1-4/512000", b"bytes 0-100/512000"):
        proxy.add("rewrite", method="GET", change=rewriting(rb"(?i)(content-range): .*", rb"\1: " + found + b"\r"))
        with pytest.raises(RemoteUntrusted):
            objects.get_ranges("root/1", [(0, 4)])


def test_the_whole_instead_of_a_part_is_refused(objects: ServiceObjects, proxy: FaultProxy) -> None:
    whole = rewriting(rb"HTTP/1.1 206[^\r]*", b"HTTP/1.1 200 OK")
    proxy.add("rewrite", method="GET", change=whole)
    with pytest.raises(RemoteUntrusted):
        objects.get("root/1", 5, 9, limit=4)


def listing(*keys: str) -> bytes:
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>1</Size></Contents>"
        for key in keys
    )
    return (
        f'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>'.encode()
    )


def test_a_listing_that_lies_is_refused(objects: ServiceObjects, proxy: FaultProxy, moto_bucket: Bucket) -> None:
    below = f"{moto_bucket.prefix}/index/"
    for keys in (
        [f"{below}2", f"{below}1"],
        [f"{below}1", f"{below}1"],
        ["elsewhere/index/1"],
        [f"{below}{'x' * 2000}"],
    ):
        body = listing(*keys)
        length = b"Content-Length: %d" % len(body)
        proxy.add("rewrite", method="GET", change=rewriting(rb"(?i)content-length: \d+", length, body))
        with pytest.raises(RemoteUntrusted):
            list(objects.list("index/"))


def test_each_question_is_one_request(objects: ServiceObjects, proxy: FaultProxy) -> None:
    objects.create("root/2", DATA * 20)
    objects.get("root/1", limit=len(DATA))
    objects.get("root/1", 1, 5, limit=4)
    assert [one.key for one in objects.list("root/")] == ["root/1", "root/2"]
    objects.size("root/1")
    objects.delete(["root/1", "root/2"])
    assert [one.method for one in proxy.log] == ["PUT", "GET", "GET", "GET", "HEAD", "POST"]
    upload = proxy.log[0]
    assert (upload.up, upload.headers["if-none-match"]) == (20 * len(DATA), "*")
    assert "x-amz-checksum-sha256" in upload.headers


def test_many_threads_get_over_the_same_faults(objects: ServiceObjects, proxy: FaultProxy) -> None:
    patient = Retrying(objects, 13, sleep=lambda _: None)  # all twelve faults may meet one thread
    proxy.add("status", times=4)
    proxy.add("reset", times=4)
    proxy.add("cut", method="GET", after=100, times=4)
    right: list[bool] = []
    threads = [
        threading.Thread(target=lambda: right.append(patient.get("root/1", limit=len(DATA)) == DATA)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


@pytest.mark.parametrize("checksum", ["sha256", "crc64nvme"])
def test_bits_flipped_on_the_way_up_are_not_stored(checksum: str, bucket: Bucket, weed_proxy: FaultProxy) -> None:
    objects = bucket.objects(weed_proxy.endpoint, checksum=checksum)
    weed_proxy.add("corrupt_up", method="PUT", after=1000)
    with pytest.raises(RemoteUnavailable):
        objects.create("root/1", DATA)
    assert bucket.contents() == {}
    weed_proxy.add("corrupt_up", method="PUT", after=1000)
    assert Retrying(objects, sleep=lambda _: None).create("root/1", DATA) is Outcome.CREATED
    assert bucket.contents() == {"root/1": DATA}


@pytest.mark.parametrize("kind", ["reset_up", "lost", "twice", "status"])
def test_a_real_store_keeps_the_whole_or_nothing(kind: str, bucket: Bucket, weed_proxy: FaultProxy) -> None:
    objects = Retrying(bucket.objects(weed_proxy.endpoint), sleep=lambda _: None)
    weed_proxy.add(kind, method="PUT", after=1000)
    assert objects.create("root/1", DATA) is (Outcome.EXISTS if kind in ("lost", "twice") else Outcome.CREATED)
    assert bucket.contents() == {"root/1": DATA}
    weed_proxy.add("cut", method="GET", after=1000)
    assert objects.get("root/1", limit=len(DATA)) == DATA
