"""What does a push or a fetch cost beyond what its bytes cost whoever just sends them?

    python -m benchmarks.remotes [--mb 512] [--repeats 3] [--json FILE]

A real server, SeaweedFS, on this machine. The bare client is obstore in four threads, with the same checksums and the
same bytes: it sends the packs of the store in objects of 32 MiB from the page cache, and takes them in and writes them
to files that are durable in the end. casckpt checks every object before it sends it and after it came, packs, indexes.

Method: cases alternate inside one run, one round does not count; every push goes to an empty place, every fetch into an
empty store. Before each, what the server has taken in is brought to the disk, so that no case pays for what another
left to do, and free memory is touched and given back. cpu_s counts user and system time of the client alone, all
threads; the server is a process of its own. peak_mb is the most anonymous memory above the level at the call, of one
more call. Unit: seconds, 10^6 bytes; requests are counted at the client. An incremental push brings a commit in which
10 % changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import casckpt
from benchmarks.memory import peak_of
from benchmarks.workbench import files, limits, states
from benchmarks.workbench.clock import rotated, timed
from benchmarks.workbench.results import Results, begin, parser
from casckpt.storage.addresses import Access, parse
from casckpt.storage.objects import Objects
from casckpt.storage.opening import open_bare
from tests.remote.servers import COMMON, KEY, REGION, SECRET, running

BARE, OURS = "obstore", "casckpt"
PUSH, FETCH = "everything is sent", "everything is fetched"
CHANGED, NOTHING = "10 % changed is sent", "nothing changed, sent"
QUESTIONS = (PUSH, FETCH, CHANGED, NOTHING)
READING = "Medians; x = this case / obstore: above 1 it is slower."
PIECE = 32 << 20
THREADS = 4
MEMORY_MB = (THREADS * PIECE + 64_000_000) / 1e6
"""What a push or a fetch may take beyond the level at the call."""
Prepare = Callable[[], Callable[[], Any]]


class Bench:
    """A store, a server, and a new place there for every call.

    Args:
        endpoint: of the server, which has its files in `server`.
        folder: for the store and all copies of it.
    """

    def __init__(self, endpoint: str, server: Path, folder: Path, mb: int) -> None:
        self.server = server
        self._folder = folder
        self._options = {"endpoint": endpoint, "region": REGION}
        self._numbers = count()
        self._state = states.model(mb)
        self._store = self._committed(folder / "source")
        self._pieces = list(pieces(folder / "source"))

    def cases(self) -> list[tuple[str, str, Prepare]]:
        """(question, case, what prepares the call to be measured)."""
        return [
            (PUSH, BARE, lambda: partial(send, self._objects(self._place()), self._pieces)),
            (PUSH, OURS, lambda: partial(self._store.push, self._remote(self._store, self._place()))),
            (FETCH, BARE, self._takes),
            (FETCH, OURS, self._fetches),
            (CHANGED, OURS, partial(self._pushes_again, 0.1)),
            (NOTHING, OURS, partial(self._pushes_again, 0.0)),
        ]

    def _place(self) -> str:
        return f"s3://{COMMON}/bench/{os.getpid()}-{next(self._numbers)}"

    def _objects(self, url: str) -> Objects:
        return open_bare(parse(url), Access(**self._options))

    def _committed(self, path: Path) -> casckpt.Store:
        """A new store with the state as it is now."""
        store = casckpt.init(path)
        store.commit(states.nested(self._state), run="training")
        return store

    def _remote(self, store: casckpt.Store, url: str) -> str:
        name = f"at-{url.rpartition('-')[2]}"
        store.add_remote(name, url, probe=False, **self._options)
        return name

    def _takes(self) -> Callable[[], Any]:
        objects = self._objects(self._place())
        keys = send(objects, self._pieces)
        return partial(take, objects, keys, self._new_folder())

    def _fetches(self) -> Callable[[], Any]:
        url = self._place()
        self._store.push(self._remote(self._store, url))
        store = casckpt.init(self._new_folder() / "store")
        store.add_remote("origin", url, probe=False, **self._options)
        return store.fetch

    def _pushes_again(self, share: float) -> Callable[[], Any]:
        # A store of its own: the others are to send the same bytes in every round.
        store = self._committed(self._new_folder() / "store")
        name = self._remote(store, self._place())
        store.push(name)
        if share:
            states.edit(self._state, share)
            store.commit(states.nested(self._state), run="training")
        return partial(store.push, name)

    def _new_folder(self) -> Path:
        folder = self._folder / f"copy-{next(self._numbers)}"
        folder.mkdir()
        return folder


def pieces(store: Path) -> Iterator[tuple[Path, int, int]]:
    """(file, from, length) of the packs of a store in pieces as long as what a push sends."""
    for path in sorted((store / "packs").iterdir()):
        size = path.stat().st_size
        yield from ((path, start, min(PIECE, size - start)) for start in range(0, size, PIECE))


def send(objects: Objects, parts: list[tuple[Path, int, int]]) -> list[str]:
    """Send pieces of files as they are; the keys."""

    def one(number: int, part: tuple[Path, int, int]) -> str:
        path, start, nbytes = part
        key = f"packs/{number:08d}"
        with path.open("rb") as file:
            file.seek(start)
            objects.create(key, file.read(nbytes))
        return key

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(len(parts)), parts))


def take(objects: Objects, keys: list[str], folder: Path) -> None:
    """Take objects in and write them to files, durable."""

    def one(key: str) -> None:
        data = objects.get(key, limit=PIECE)
        with (folder / key.replace("/", "-")).open("wb") as file:
            file.write(data)
            os.fsync(file.fileno())

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(one, keys):
            pass


def figures(report: Any) -> dict[str, float]:
    """What a report of casckpt says of its requests."""
    if not hasattr(report, "requests"):
        return {}
    return {"requests": float(sum(report.requests.values())), "packs": float(getattr(report, "packs", 0))}


def measure(bench: Bench, results: Results, repeats: int) -> None:
    """All cases in turn, then each once more for its memory."""
    cases = bench.cases()
    for number in results.rounds(repeats):
        for question, case, prepare in rotated(cases, number):
            action, reports = prepare(), []
            files.flush(bench.server)
            limits.wake(int(MEMORY_MB * 1e6))
            seconds = timed(lambda action=action, reports=reports: reports.append(action()))  # type: ignore[misc]
            results.add(question, case, seconds, **figures(reports[0]))
    for question, case, prepare in cases:
        results.add(question, case, peak_mb=peak_of(prepare()) / 1e6)


def main() -> int:
    """Read the command line and measure."""
    arguments = parser(__doc__, mb=512, repeats=3).parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    with files.scratch(arguments.folder) as folder, running("weed", place := folder / "server") as server:
        results = begin("remotes", folder, reading=READING, mb=arguments.mb)
        results.order = [BARE, OURS]
        measure(Bench(server.endpoint, place, folder, arguments.mb), results, arguments.repeats)
        for question in QUESTIONS:
            results.print(question, base=BARE)
        results.write(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
