"""The door to obstore: objects in S3 and its like, Google Cloud Storage, Azure, and behind plain HTTP.

What obstore does otherwise than a remote needs, and what is done about it here:

- Its time limit of a whole request is 30 s, too short for a pack over a slow line, and its limit of a standstill
  counts an upload as one. So uploads have no limit of a standstill, and every request has one of its own length.
- It repeats requests unseen. Here it never does: `objects_retry` repeats, and a meter counts each.
- Uploads above 5 MiB become several requests, which are not create-only. Here each is one.
- It sends no checksum with an upload, and most services store what a bit was flipped in. Here they can check.
- It looks for credentials at the metadata address of a cloud. Here it asks a closed port, unless that was chosen.
- What a broken server sends it takes into memory whatever the length. Here an answer is counted while it comes.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import urlsplit

from casckpt.errors import CasckptError, RemoteDenied, RemoteUnavailable, RemoteUntrusted, UsageError
from casckpt.storage.addresses import Access, Address, redacted
from casckpt.storage.answers import Answer, error_of, read
from casckpt.storage.credentials import NOWHERE, aws_provider, certificates, check_google
from casckpt.storage.objects import Buffer, Listed, Outcome
from casckpt.storage.pace import SLOWEST, Pace
from casckpt.storage.pages import pages

_CONNECT_S = 5
_PIECE_BYTES = 1 << 18
_PAGE = 1000
_LISTED_MAX = 20_000_000
_KEY_MAX_BYTES = 1024
_T = TypeVar("_T")


_asked_by: list[int] = []
"""The process that made the first request: obstore's threads are its own, and a child of fork would wait for ever."""


class _Refused(Exception):
    """What a service answered instead of doing it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(answer.says)


class ServiceObjects:
    """Objects of a service. A child of fork is refused if its parent has made a request before.

    Args:
        address: of a service.
        access: how it is reached.

    Raises:
        UsageError: obstore is not installed, or `access` names what is not there.
    """

    def __init__(self, address: Address, access: Access) -> None:
        try:
            import obstore
        except ImportError:
            problem = f"{address.scheme}:// needs obstore: pip install 'casckpt[s3]'"
            raise UsageError(problem=problem) from None
        self._obstore: Any = obstore
        self._failures = (obstore.exceptions.BaseError, OSError, ValueError)
        self.url = address.url
        self.read_only = address.scheme in ("http", "https")
        self._address = address
        self._access = access
        self._prefix = f"{address.path}/" if address.path and not self.read_only else ""
        self._stores: dict[tuple[bool, int], Any] = {}
        self._identity: dict[str, Any] | None = None
        self._pace = Pace()
        self._mutex = threading.Lock()
        self._store(False, access.timeout_s)  # what is wrong with the credentials shows now

    def get(self, key: str, start: int = 0, stop: int | None = None, *, limit: int) -> bytes:
        if stop is not None and stop <= start:
            return b""
        most = limit if stop is None else min(limit, stop - start)

        def taken_in(pieces: Iterator[Buffer]) -> bytes:
            buffer = BytesIO()
            for piece in pieces:
                buffer.write(piece)
            return buffer.getvalue()

        return self._read(key, start, stop, most, taken_in) or b""

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        return [self._range(key, start, stop) if stop > start else b"" for start, stop in ranges]

    def _range(self, key: str, start: int, stop: int) -> memoryview:
        """One range, in memory of its own that no piece of it is moved in, and that is given back as a whole."""
        nbytes = stop - start

        def taken_in(pieces: Iterator[Buffer]) -> memoryview:
            memory = memoryview(bytearray(nbytes) if nbytes < _PIECE_BYTES else pages(nbytes, huge=False))
            at = 0
            for piece in pieces:
                memory[at : at + len(piece)] = piece
                at += len(piece)
            return memory[:at]

        found = self._read(key, start, stop, nbytes, taken_in)
        if found is None or len(found) != nbytes:
            raise RemoteUntrusted(remote=self.url, problem=f"{key} is shorter than the remote's index says")
        return found

    def _read(
        self, key: str, start: int, stop: int | None, limit: int, taken_in: Callable[[Iterator[Buffer]], _T]
    ) -> _T | None:
        """What `taken_in` makes of the bytes of an object; None if they begin behind its end."""
        options: dict[str, Any] = {}
        if stop is not None:
            options["range"] = (start, stop)
        elif start:
            options["range"] = {"offset": start}

        def ask(store: Any) -> _T:
            result = self._obstore.get(store, self._path(key), options=options)
            return taken_in(self._pieces(result, key, start, stop, limit))

        try:
            return self._ask(ask, limit / SLOWEST)
        except _Refused as refused:
            if refused.answer.status == 416:
                return None
            raise self._error("read", key, refused.answer) from None

    def create(self, key: str, data: Buffer) -> Outcome:
        if self.read_only:
            raise RemoteDenied(remote=self.url, operation="store", problem="plain HTTP is for reading only")
        attributes = {"Storage-Class": self._access.storage_class} if self._access.storage_class else None
        body = memoryview(data).cast("B")

        def ask(store: Any) -> None:
            self._obstore.put(store, self._path(key), body, mode="create", use_multipart=False, attributes=attributes)

        begin = time.monotonic()
        try:
            self._ask(ask, self._pace.seconds(len(body)), writes=True)
        except _Refused as refused:
            answer = refused.answer
            if not answer.status:
                self._pace.failed()
            # 409 alone says that somebody else is at it too. Whether he stored it or nobody did shows a look.
            if answer.is_taken or (answer.status == 409 and self.size(key) is not None):
                return Outcome.EXISTS
            if answer.may_have_happened:
                return Outcome.UNKNOWN
            if answer.status == 404:
                answer = answer._replace(code="NoSuchBucket")
            raise self._error("store", key, answer) from None
        self._pace.went_well(len(body), time.monotonic() - begin)
        return Outcome.CREATED

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        last, count = "", 0
        for page in self._pages(prefix, after):
            for one in page:
                path: str = one["path"]
                key = path.removeprefix(self._prefix)
                if not path.startswith(self._prefix + prefix) or len(path) > _KEY_MAX_BYTES or count > _LISTED_MAX:
                    raise RemoteUntrusted(remote=self.url, problem=f"its listing of {prefix} holds what is not there")
                if key <= last:
                    raise RemoteUntrusted(remote=self.url, problem=f"its listing of {prefix} is out of order")
                last, count = key, count + 1
                if key > after:  # a service may list from the start all the same
                    yield Listed(key, one["size"], int(one["last_modified"].timestamp() * 1e6) * 1000)

    def _pages(self, prefix: str, after: str) -> Iterator[Sequence[dict[str, Any]]]:
        offset = self._prefix + after if after else None

        def begin(store: Any) -> tuple[Any, Sequence[dict[str, Any]] | None]:
            stream = self._obstore.list(store, self._prefix + prefix, offset=offset, chunk_size=_PAGE)
            return stream, next(stream, None)

        try:
            stream, page = self._ask(begin)
            while page is not None:
                yield page
                page = self._asked(next, stream, None)
        except _Refused as refused:
            answer = refused.answer
            if answer.status == 404:  # of a listing it can only be the bucket that is missing
                answer = answer._replace(code="NoSuchBucket")
            raise self._error("list", prefix, answer) from None

    def delete(self, keys: Sequence[str]) -> None:
        if self.read_only:
            raise RemoteDenied(remote=self.url, operation="delete", problem="plain HTTP is for reading only")
        if not keys:
            return
        paths = [self._path(key) for key in keys]
        try:
            self._ask(lambda store: self._obstore.delete(store, paths))
        except _Refused as refused:
            # Of several at once, one that is missing or a service that cannot stop them all.
            if refused.answer.status not in (404, 501):
                raise self._error("delete", keys[0], refused.answer) from None
            for key in keys:
                self._delete_one(key)

    def _delete_one(self, key: str) -> None:
        try:
            self._ask(lambda store: self._obstore.delete(store, self._path(key)))
        except _Refused as refused:
            if refused.answer.status != 404 or refused.answer.is_missing_bucket:
                raise self._error("delete", key, refused.answer) from None

    def size(self, key: str) -> int | None:
        try:
            found = self._ask(lambda store: self._obstore.head(store, self._path(key)))
        except _Refused as refused:
            if refused.answer.status == 404:
                return None
            raise self._error("look at", key, refused.answer) from None
        nbytes: int = found["size"]
        return nbytes

    def _pieces(self, result: Any, key: str, start: int, stop: int | None, limit: int) -> Iterator[Buffer]:
        """The bytes of an answer, counted while they come: its own figures may be wrong."""
        total = result.meta["size"]
        end = total if stop is None else min(stop, total)
        most = end - start
        if most > limit:
            raise RemoteUntrusted(remote=self.url, problem=f"{key} has more than the {limit} bytes it may have")
        if tuple(result.range) != (start, end):
            raise RemoteUntrusted(remote=self.url, problem=f"{key} was asked for in part, and another part came")
        taken = 0
        for piece in result.stream(min_chunk_size=min(max(most, 1), _PIECE_BYTES)):
            taken += len(piece)
            if taken > most:
                raise RemoteUntrusted(remote=self.url, problem=f"{key} went on after its end")
            yield memoryview(piece)
        if taken != most:
            raise RemoteUnavailable(remote=self.url, operation=f"read {key}", problem="the connection broke")

    def _path(self, key: str) -> str:
        return self._prefix + key

    def _error(self, operation: str, key: str, answer: Answer) -> Exception:
        if answer.status == 404 and not answer.is_missing_bucket:
            return FileNotFoundError(key)
        return error_of(answer, self.url, f"{operation} {key}")

    def _ask(self, ask: Callable[[Any], _T], seconds: float = 0.0, *, writes: bool = False) -> _T:
        """What `ask` returns for the store; asked twice where the credentials turn out to have expired.

        Args:
            seconds: what it may take, beside the time that every request has.
        """
        seconds += self._access.timeout_s
        if not _asked_by:
            _asked_by.append(os.getpid())
        if _asked_by[0] != os.getpid():
            problem = "this process was forked from one that has used remotes, and their threads stayed behind"
            raise UsageError(problem=f"{problem}; start it by spawn")
        store = self._store(writes, seconds)
        try:
            return self._asked(ask, store)
        except _Refused as refused:
            if not refused.answer.is_expired:
                raise
        self._renew(store)
        return self._asked(ask, self._store(writes, seconds))

    def _asked(self, ask: Callable[..., _T], *arguments: Any) -> _T:
        try:
            return ask(*arguments)
        except CasckptError:
            raise
        except self._failures as error:
            # Not chained: obstore's text may hold the request, and the request a signature.
            raise _Refused(read(error)) from None

    def _store(self, writes: bool, seconds: float) -> Any:
        """A store whose requests may take `seconds` or up to four times that: each has connections of its own."""
        limit = 4 ** math.ceil(math.log(max(1.0, seconds), 4))
        with self._mutex:
            found = self._stores.get((writes, limit))
        return found or self._open(writes, limit)

    def _renew(self, store: Any) -> None:
        """Find credentials anew, unless another thread has done so since `store` was opened."""
        with self._mutex:
            if any(one is store for one in self._stores.values()):
                self._stores.clear()
                self._identity = None

    def _open(self, writes: bool, limit: int) -> Any:
        """A new store.

        Raises:
            UsageError, RemoteDenied: the credentials are not to be had.
        """
        with self._mutex:
            if self._identity is None:
                self._identity = self._credentials()
            store = self._made(self._options(writes, limit), self._identity)
            self._stores[writes, limit] = store
        return store

    def _options(self, writes: bool, limit: int) -> dict[str, Any]:
        client: dict[str, Any] = {
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            "timeout": timedelta(seconds=limit),
            "user_agent": "casckpt",
        }
        if not writes:
            client["read_timeout"] = timedelta(seconds=self._access.timeout_s)
        if self._access.allow_http or self._access.is_plain or self._address.scheme == "http":
            client["allow_http"] = True
        if (trusted := certificates()) is not None:
            client["root_certificate"] = trusted
        return {"client_options": client, "retry_config": {"max_retries": 0}}

    def _credentials(self) -> dict[str, Any]:
        access, scheme = self._access, self._address.scheme
        if scheme in ("http", "https"):
            return {}
        if access.credentials == "none":
            return {"skip_signature": True}
        if scheme == "gs" and access.credentials == "default":
            check_google(self.url)
        if scheme == "az" and access.credentials == "default":
            return {"msi_endpoint": NOWHERE}
        if scheme != "s3" or access.credentials == "instance":
            return {}
        provider, region = aws_provider(access.profile)
        found: dict[str, Any] = {"metadata_endpoint": NOWHERE}
        if region:
            found["region"] = region
        return found if provider is None else {**found, "credential_provider": provider}

    def _made(self, options: dict[str, Any], identity: dict[str, Any]) -> Any:
        from obstore import store

        address, access = self._address, self._access
        try:
            if address.scheme in ("http", "https"):
                return store.HTTPStore(address.url, **options)
            if address.scheme == "gs":
                return store.GCSStore(address.host, **options, **identity)
            if address.scheme == "az":
                return store.AzureStore(address.host, **options, **identity, **_azure(access))
            return store.S3Store(address.host, **{**options, **identity, **_s3(address, access)})
        except self._failures as error:
            problem = redacted(str(error).partition("\n")[0])
            raise RemoteDenied(remote=self.url, operation="sign in", problem=problem) from None


def _s3(address: Address, access: Access) -> dict[str, Any]:
    found: dict[str, Any] = {"conditional_put": "etag"}  # whatever the environment says: it is what a remote stands on
    if access.region:
        found["region"] = access.region
    if access.endpoint:
        # Under both names: what the environment has under the second would come before the first.
        found["endpoint"] = found["aws_endpoint_url_s3"] = access.endpoint.rstrip("/")
        host = access.endpoint.partition("://")[2]
        found["virtual_hosted_style_request"] = host.startswith(f"{address.host}.") and not access.path_style
    checksum = access.checksum
    if checksum == "auto":
        checksum = "sha256" if access.is_plain else "crc64nvme"
    if checksum != "none":
        found["checksum_algorithm"] = checksum
    # TLS keeps the body from being changed on its way; to hash it for the signature too would cost most of an upload.
    found["unsigned_payload"] = checksum == "crc64nvme" and not access.is_plain
    return found


def _azure(access: Access) -> dict[str, Any]:
    if not access.endpoint:
        return {}
    parts = urlsplit(access.endpoint)
    # An emulator has the account in the path, the service in the name of the host.
    account = parts.path.strip("/") or (parts.hostname or "").partition(".")[0]
    return {"endpoint": access.endpoint.rstrip("/"), "account_name": account}
