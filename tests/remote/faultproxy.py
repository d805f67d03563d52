"""A proxy in front of a server that fails where it is told to, and keeps a log of every request.

    with FaultProxy(server.port) as proxy:      # proxy.endpoint is what the client gets
        fault = proxy.add("status", method="PUT", path="root/", times=2, status=503, code="SlowDown")
        ...
        assert fault.hits == 2
        assert [request.method for request in proxy.log] == ["PUT", "PUT", "PUT"]

Kinds of faults:
    status        the proxy answers (`status`, `code`), the server never hears of it
    reset         the connection is reset before anything is forwarded
    reset_up      `after` bytes of the request's body are forwarded, then both connections are reset
    lost          the request is forwarded, its answer swallowed, the connection reset: did it happen?
    ghost         the connection is reset at once, the request forwarded `delay` seconds later: a late write
    twice         the request is forwarded twice, the second answer given: a duplicate delivery
    cut           `after` bytes of the answer's body, then a reset, or an orderly end (`orderly`)
    corrupt_down  one bit of the answer's body is flipped at byte `after`
    corrupt_up    one bit of the request's body is flipped at byte `after`
    latency       `delay` seconds pass first
    throttle      bodies pass at `rate` bytes a second, in both directions
    rewrite       `change(request head, answer head, body) -> (answer head, body)`
    hold          nothing passes until `release` is set: the test decides what happens meanwhile
    kill          `pid` is killed and the request forgotten, or with `late` it is killed once the answer came; the
                  proxy waits until `pid` is set

HTTP/1.1, one thread, standard library. Signatures survive, since the host that the client names stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

Change = Callable[[bytes, bytes, bytes], tuple[bytes, bytes]]
_LIMIT = 1 << 20
_ERRORS = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)


@dataclass
class Fault:
    """What goes wrong, with which requests, how often; `hits` counts."""

    kind: str
    method: str = ""
    path: str = ""
    times: int = 1
    skip: int = 0
    after: int = 0
    delay: float = 0.0
    status: int = 503
    code: str = "SlowDown"
    rate: int = 0
    orderly: bool = False
    late: bool = False
    pid: int = 0
    change: Change | None = None
    release: threading.Event = field(default_factory=threading.Event)
    hits: int = 0

    def takes(self, method: str, path: str) -> bool:
        """Whether this request is met; counts."""
        if self.times <= 0 or self.method not in ("", method) or not re.search(self.path, path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        self.hits += 1
        return True


@dataclass
class Request:
    """A request that reached the proxy; `status` is 0 if no answer came."""

    method: str
    path: str
    headers: dict[str, str]
    fault: str = ""
    status: int = 0
    up: int = 0
    down: int = 0


@dataclass
class _Exchange:
    """What the handling of one request knows: its head, both connections, its fault and its line in the log."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: Request
    fault: Fault

    @property
    def kind(self) -> str:
        return self.fault.kind


_NO_FAULT = Fault("")


class FaultProxy:
    """A context manager; `add`, `clear` and `log` may be used from any thread while it runs.

    Args:
        port: of the server, on this machine.
        tls: speak https to clients, with this certificate.

    Attributes:
        log: every request, in the order in which they came.
        endpoint: URL of the proxy.
        strip: name of a header that is taken off every request.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._server_port = port
        self._tls = tls
        self._faults: list[Fault] = []
        self.log: list[Request] = []
        self.endpoint = ""
        self.strip = b""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None] | None] = set()
        self._thread = threading.Thread(target=self._run, daemon=True, name="fault-proxy")

    def add(self, kind: str, **facts: object) -> Fault:
        """Arrange a fault; the first that takes a request meets it."""
        fault = Fault(kind, **facts)  # type: ignore[arg-type]
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget the faults and the log."""
        self._faults.clear()
        self.log.clear()

    def requests(self, method: str = "", path: str = "") -> list[Request]:
        """The requests of the log with this method and something of this pattern in their path."""
        return [one for one in self.log if method in ("", one.method) and re.search(path, one.path)]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fault in self._faults:
            fault.release.set()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=_LIMIT, ssl=self._tls)
        self.endpoint = f"{'https' if self._tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        await asyncio.sleep(0.01)  # what was accepted last gets its task, which closes it
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        # Nothing else holds the task of a client that has gone while the server was at work.
        self._tasks.add(task := asyncio.current_task())
        try:
            while True:
                exchange = await self._next(reader, writer)
                if exchange.kind in _INSTEAD:
                    if not await _INSTEAD[exchange.kind](self, exchange):
                        return
                    continue
                if server is None or server[1].is_closing():
                    server = await self._connect()
                if not await _forward(exchange, *server) or not await _answer(exchange, *server):
                    return
        except _ERRORS:
            pass
        finally:
            self._tasks.discard(task)
            for one in (writer, server[1] if server else None):
                if one is not None:
                    with contextlib.suppress(Exception):
                        one.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._server_port, limit=_LIMIT)

    async def _next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Exchange:
        head, line, headers = await _head(reader)
        method, path, _ = line.split(" ", 2)
        fault = next((one for one in self._faults if one.takes(method, path)), _NO_FAULT)
        request = Request(method, path, headers, fault.kind)
        self.log.append(request)
        if fault.kind == "latency":
            await asyncio.sleep(fault.delay)
        elif fault.kind == "hold":
            await asyncio.get_running_loop().run_in_executor(None, fault.release.wait, 60)
        elif fault.kind == "kill" and not fault.late:
            await _kill(fault)
            raise ConnectionResetError
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
            head = re.sub(rb"(?i)expect: [^\r]*\r\n", b"", head)
        if self.strip:
            head = re.sub(rb"(?im)^%s: [^\r]*\r\n" % self.strip, b"", head)
        return _Exchange(head, reader, writer, request, fault)

    async def _status(self, exchange: _Exchange) -> bool:
        async for piece in _body(exchange.reader, exchange.request.headers):
            exchange.request.up += len(piece)
        fault, request = exchange.fault, exchange.request
        body = f'<?xml version="1.0"?><Error><Code>{fault.code}</Code><Message>injected</Message></Error>'.encode()
        request.status = fault.status
        length = f"HTTP/1.1 {fault.status} X\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        exchange.writer.write(length.encode() + (b"" if request.method == "HEAD" else body))
        await exchange.writer.drain()
        return True

    async def _reset(self, exchange: _Exchange) -> bool:
        _abort(exchange.writer)
        return False

    async def _ghost(self, exchange: _Exchange) -> bool:
        wire = await self._whole(exchange)
        _abort(exchange.writer)
        await asyncio.sleep(exchange.fault.delay)
        exchange.request.status, _ = await self._send(exchange, wire)
        return False

    async def _twice(self, exchange: _Exchange) -> bool:
        wire = await self._whole(exchange)
        await self._send(exchange, wire)
        exchange.request.status, answer = await self._send(exchange, wire)
        exchange.writer.write(answer)
        await exchange.writer.drain()
        return True

    async def _whole(self, exchange: _Exchange) -> bytes:
        wire = exchange.head
        async for piece in _body(exchange.reader, exchange.request.headers):
            wire += piece
            exchange.request.up += len(piece)
        return wire

    async def _send(self, exchange: _Exchange, wire: bytes) -> tuple[int, bytes]:
        reader, writer = await self._connect()
        try:
            writer.write(wire)
            await writer.drain()
            answer, line, headers = await _head(reader)
            status = int(line.split()[1])
            is_empty = _is_empty(exchange.request.method, status)
            async for piece in _body(reader, headers, is_answer=True, is_empty=is_empty):
                answer += piece
        finally:
            writer.close()
        return status, answer


_INSTEAD: dict[str, Callable[[FaultProxy, _Exchange], Awaitable[bool]]] = {
    "status": FaultProxy._status,
    "reset": FaultProxy._reset,
    "ghost": FaultProxy._ghost,
    "twice": FaultProxy._twice,
}
"""Kinds that do not pass a request through; each says whether the connection goes on."""


async def _forward(exchange: _Exchange, _: asyncio.StreamReader, server: asyncio.StreamWriter) -> bool:
    """Send the request on; False if the connections were reset."""
    fault, sent = exchange.fault, 0
    server.write(exchange.head)
    async for piece in _body(exchange.reader, exchange.request.headers):
        exchange.request.up += len(piece)
        if exchange.kind == "reset_up" and sent + len(piece) > fault.after:
            server.write(piece[: fault.after - sent])
            await server.drain()
            _abort(server)
            _abort(exchange.writer)
            return False
        if exchange.kind == "throttle":
            await asyncio.sleep(len(piece) / fault.rate)
        server.write(_flipped(piece, fault.after - sent) if exchange.kind == "corrupt_up" else piece)
        sent += len(piece)
        await server.drain()
    await server.drain()
    return True


async def _answer(exchange: _Exchange, server: asyncio.StreamReader, _: asyncio.StreamWriter) -> bool:
    """Give the answer back; False if the connection does not go on."""
    fault, request, writer = exchange.fault, exchange.request, exchange.writer
    head, line, headers = await _head(server)
    request.status = int(line.split()[1])
    body = _body(server, headers, is_answer=True, is_empty=_is_empty(request.method, request.status))
    if exchange.kind in ("lost", "rewrite", "kill"):
        whole = b"".join([piece async for piece in body])
        if exchange.kind == "kill":
            await _kill(fault)
        if exchange.kind in ("lost", "kill"):
            _abort(writer)
            return False
        if fault.change is not None:
            head, whole = fault.change(exchange.head, head, whole)
        request.down += len(whole)
        writer.write(head + whole)
        await writer.drain()
        return True
    writer.write(head)
    async for piece in body:
        if exchange.kind == "cut" and request.down + len(piece) > fault.after:
            writer.write(piece[: fault.after - request.down])
            request.down = fault.after
            await writer.drain()
            await asyncio.sleep(0.05)  # a reset overtakes what was sent before it
            if not fault.orderly:
                _abort(writer)
            return False
        if exchange.kind == "throttle":
            await asyncio.sleep(len(piece) / fault.rate)
        writer.write(_flipped(piece, fault.after - request.down) if exchange.kind == "corrupt_down" else piece)
        request.down += len(piece)
        await writer.drain()
    await writer.drain()
    return headers.get("connection", "").lower() != "close"


async def _kill(fault: Fault) -> None:
    while not fault.pid:  # the process may be quicker than whoever tells its number
        await asyncio.sleep(0.001)
    os.kill(fault.pid, signal.SIGKILL)


async def _head(reader: asyncio.StreamReader) -> tuple[bytes, str, dict[str, str]]:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").split("\r\n")
    pairs = (one.partition(":") for one in rest if one)
    return head, line, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(
    reader: asyncio.StreamReader, headers: dict[str, str], *, is_answer: bool = False, is_empty: bool = False
) -> AsyncIterator[bytes]:
    """The body as it is on the wire, with what frames it."""
    if is_empty:
        return
    if "chunked" in headers.get("transfer-encoding", ""):
        while True:
            line = await reader.readuntil(b"\r\n")
            yield line
            if not (count := int(line.split(b";")[0], 16)):
                break
            yield await reader.readexactly(count + 2)
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            yield line
        yield line
    elif "content-length" in headers:
        left = int(headers["content-length"])
        while left:
            piece = await reader.read(min(left, 1 << 16))
            if not piece:
                raise ConnectionResetError
            left -= len(piece)
            yield piece
    elif is_answer:
        while piece := await reader.read(1 << 16):
            yield piece


def _is_empty(method: str, status: int) -> bool:
    return method == "HEAD" or status in (204, 304)


def _flipped(piece: bytes, at: int) -> bytes:
    """A piece with one bit flipped, if the place is in it."""
    return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :] if 0 <= at < len(piece) else piece


def _abort(writer: asyncio.StreamWriter) -> None:
    """Reset a connection."""
    found = writer.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
