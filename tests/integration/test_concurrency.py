"""Many processes and threads on one store at once: nothing acknowledged is lost, nobody blocks anybody."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import ConflictError
from casckpt.odb import database as database_module
from casckpt.odb import tables
from casckpt.odb.index import Index
from casckpt.odb.journal import Journal
from tests.integration.worker import SEAL_FRAMES_VARIABLE, assert_is_state_of, state_of
from tests.support.nursery import Child, Nursery, nursery

ROOT = Path(__file__).resolve().parents[2]
WORKERS, COMMITS, KILLS = 8, 200, 20
PRELUDE = """
import lmdb, casckpt.store, casckpt.ops.commit, casckpt.odb.pipeline, casckpt.odb.session
import casckpt.state.flatten, casckpt.storage.local, tests.integration.worker
"""
COMMIT = "import sys; from tests.integration import worker; worker.commit(*sys.argv[1:])"
LONGEST_S = 60.0
# Python 3.12 and later warn of every fork of a process with threads; that it works is what is tested.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
REPLACED = "an index that is replaced closes under the threads that read it"
INHERITED = "a forked child cannot open the index its parent has open, and builds another in its place"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    casckpt.init(tmp_path / "store").close()
    return tmp_path / "store"


def start(*arguments: object, seal_frames: int | None = None) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    if seal_frames is not None:
        environment[SEAL_FRAMES_VARIABLE] = str(seal_frames)
    words = [sys.executable, "-m", "tests.integration.worker", *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT, env=environment)


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process; dead and waited for afterwards, whatever happened."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Crowd:
    """Workers that are killed and replaced while they commit; `acknowledged` is what they printed, by worker."""

    def __init__(self, processes: Nursery, path: Path, runs: list[str], commits: int) -> None:
        self._nursery = processes
        self.path, self.runs, self.commits = path, runs, commits
        self.acknowledged: list[dict[int, str]] = [{} for _ in runs]
        self.killed = 0
        self._selector = selectors.DefaultSelector()
        self._processes: dict[int, Child] = {}

    def work(self, kills: dict[int, int]) -> None:
        """Let all of them finish.

        Args:
            kills: place of a victim among the running workers, by the commits acknowledged by all together.
        """
        try:
            for worker in range(len(self.runs)):
                self._start(worker)
            while self._processes:
                for key, _ in self._selector.select():
                    self._hear(key.data, kills)
        finally:
            for process in self._processes.values():
                process.kill()
                process.communicate(LONGEST_S)
            self._selector.close()

    def _start(self, worker: int) -> None:
        first = len(self.acknowledged[worker])
        process = self._nursery.start(COMMIT, self.path, self.runs[worker], worker, first, self.commits)
        self._processes[worker] = process
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)

    def _hear(self, worker: int, kills: dict[int, int]) -> None:
        process = self._processes[worker]
        line = process.stdout.readline()
        if line.endswith("\n"):
            number, identity = line.split()
            self.acknowledged[worker][int(number)] = identity
            place = kills.get(sum(map(len, self.acknowledged)))
            if place is not None:
                # The victim is wherever in its work the acknowledgement of another happened to find it.
                running = list(self._processes.values())
                running[place % len(running)].kill()
                self.killed += 1
            return
        self._selector.unregister(process.stdout)
        _, errors = process.communicate(LONGEST_S)
        assert process.returncode in (0, -signal.SIGKILL), errors
        del self._processes[worker]
        if len(self.acknowledged[worker]) < self.commits:
            self._start(worker)


@pytest.mark.slow
def test_no_acknowledged_commit_is_lost_among_eight_processes_with_twenty_of_them_killed(path: Path) -> None:
    runs = ["shared"] * (WORKERS // 2) + [f"own-{worker}" for worker in range(WORKERS // 2)]
    rng = random.Random(20240611)
    moments = rng.sample(range(10, WORKERS * COMMITS - COMMITS), KILLS)
    with nursery(PRELUDE) as processes:
        crowd = Crowd(processes, path, runs, COMMITS)
        crowd.work({moment: rng.randrange(WORKERS) for moment in moments})
    assert crowd.killed == KILLS
    assert [len(acknowledged) for acknowledged in crowd.acknowledged] == [COMMITS] * WORKERS

    with casckpt.open(path) as store:
        log = list(store.log())
        logged = {info.id: info for info in log}
        assert len(logged) == len(log)
        for worker, acknowledged in enumerate(crowd.acknowledged):
            for number, identity in acknowledged.items():
                assert (logged[identity].run, logged[identity].step) == (runs[worker], number)
                assert_is_state_of(store.checkout(identity), worker, number)
        # A worker killed between its frame and its answer left one commit more than it acknowledged.
        assert WORKERS * COMMITS <= len(log) <= WORKERS * COMMITS + KILLS
        for run in {*runs}:
            assert_is_one_chain(store, run, [info for info in log if info.run == run])
        # One killed between its pack and its frame left a pack that nobody names.
        report = store.fsck("full")
        assert report.ok
        assert len(report.findings) <= KILLS
    assert_nothing_unfinished_after_the_next_commit(path)


def assert_is_one_chain(store: casckpt.Store, run: str, commits: list[casckpt.CommitInfo]) -> None:
    """Every commit of the run is an ancestor of its last, each with the one before it as its only parent."""
    by_id = {info.id: info for info in commits}
    info = store.show(f"{run}/last")
    length = 1
    while info.parents:
        (parent,) = info.parents
        info = by_id[parent]
        length += 1
    assert length == len(commits)


def assert_nothing_unfinished_after_the_next_commit(path: Path) -> None:
    with casckpt.open(path) as store:
        store.commit({"x": 1}, run="after")
    assert os.listdir(path / "tmp") == []


def test_appends_to_one_run_by_two_handles_never_conflict(path: Path) -> None:
    with casckpt.open(path) as one, casckpt.open(path) as other:
        for number in range(20):
            (one, other)[number % 2].commit({"n": number}, run="r")
        assert [info.step for info in one.log()] == [None] * 20
        assert_is_one_chain(other, "r", list(one.log("r")))


def test_a_commit_that_expected_another_last_conflicts_changes_nothing_and_keeps_its_objects(path: Path) -> None:
    with casckpt.open(path) as one, casckpt.open(path) as other:
        first = one.commit(state_of(0, 0), run="r")
        expected = one.show("r/last").id
        second = other.commit(state_of(0, 1), run="r")
        before = (list(one.log()), one.runs())
        with pytest.raises(ConflictError) as raised:
            one.commit(state_of(0, 7), run="r", expect=expected)
        assert raised.value.facts == {"ref": "r", "expected": first.short, "actual": second.short}
        for store in (one, other):
            assert (list(store.log()), store.runs()) == before
            assert store.fsck("full").findings == ()
        packs = os.listdir(path / "packs")
        third = one.commit(state_of(0, 7), run="r", expect=second.id)
        assert third.parents == (second.id,)
        assert os.listdir(path / "packs") == packs
        assert_is_state_of(other.checkout("r"), 0, 7)


def test_one_of_many_that_expect_the_same_last_is_first_and_all_others_conflict(path: Path) -> None:
    with casckpt.open(path) as store:
        first = store.commit({"n": 0}, run="r")
        outcomes: list[str] = []

        def attempt(number: int) -> None:
            try:
                outcomes.append(store.commit({"n": number}, run="r", expect=first.id).id)
            except ConflictError:
                outcomes.append("conflict")

        together([lambda number=number: attempt(number) for number in range(1, 7)])
        assert [outcome for outcome in outcomes if outcome != "conflict"] == [store.show("r").id]
        assert len(outcomes) == 6


def test_a_process_stopped_inside_its_commit_blocks_no_other_committer(path: Path) -> None:
    with ended(start("stop", path)) as stopped:
        _, status = os.waitpid(stopped.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        with casckpt.open(path) as store:
            for number in range(16):
                info = store.commit(state_of(1, number), run="free")
                assert_is_state_of(store.checkout(info.id), 1, number)
            assert store.fsck("full").findings == ()
            assert len(os.listdir(path / "tmp")) <= 1
            stopped.send_signal(signal.SIGCONT)
            number, identity = stopped.stdout.readline().split()
            assert store.show("stopped").id == identity.decode()
            assert_is_state_of(store.checkout("stopped"), 99, int(number))


def together(actions: list[Callable[[], None]]) -> None:
    """Run every action in a thread of its own, all at once; the first failure is raised here."""
    barrier = threading.Barrier(len(actions))
    failures: list[BaseException] = []

    def body(action: Callable[[], None]) -> None:
        try:
            barrier.wait()
            action()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_four_threads_of_one_store_commit_and_check_out_at_once(path: Path) -> None:
    with casckpt.open(path) as store:
        made: list[list[str]] = [[], [], [], []]

        def work(thread: int) -> None:
            for number in range(30):
                made[thread].append(store.commit(state_of(thread, number), run="shared", step=number).id)
                for other in range(4):
                    if made[other]:
                        last = len(made[other]) - 1
                        assert_is_state_of(store.checkout(made[other][last]), other, last)

        together([lambda thread=thread: work(thread) for thread in range(4)])
        log = list(store.log("shared"))
        assert {info.id for info in log} == {identity for ids in made for identity in ids}
        assert_is_one_chain(store, "shared", log)
        assert store.status().commits == 120
        assert store.fsck("full").findings == ()


def test_a_look_up_goes_on_when_the_index_is_replaced_in_its_midst(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with casckpt.open(path) as store:
        first = store.commit(state_of(0, 7), run="r")
        store.close()
        store = casckpt.open(path)
        get = Index.get

        def replaced_before(index: Index, table: str, key: bytes) -> bytes | None:
            if table != tables.COMMITS:  # those are looked up outside of all locks
                return get(index, table, key)
            monkeypatch.setattr(Index, "get", get)
            shutil.rmtree(path / "index")
            casckpt.open(path).close()
            together([lambda: store.show("r") and None])
            return get(index, table, key)

        monkeypatch.setattr(Index, "get", replaced_before)
        try:
            assert store.show("r").id == first.id
        finally:
            store.close()


def test_threads_that_read_are_not_disturbed_when_the_index_is_replaced(path: Path) -> None:
    with casckpt.open(path) as store:
        ids = [store.commit(state_of(0, number), run="r").id for number in range(16)]
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                for number, identity in enumerate(ids):
                    assert_is_state_of(store.checkout(identity), 0, number)

        def replace() -> None:
            try:
                for number in range(20):
                    shutil.rmtree(path / "index")
                    with casckpt.open(path) as other:
                        other.commit(state_of(1, number), run="other")
                    store.show("r")
            finally:
                done.set()

        together([read, read, replace])
        assert store.status().commits == 36


def in_child(body: Callable[[], None]) -> None:
    """Run `body` in a forked child; a failure there is a failure here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            body()
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert said == ""
    assert status == 0


@forks
def test_a_forked_child_reads_and_commits_with_the_store_it_inherited(path: Path) -> None:
    with casckpt.open(path) as store:
        before = [store.commit(state_of(0, number), run="parent").id for number in range(10)]
        store.checkout(before[7])

        def body() -> None:
            for number, identity in enumerate(before):
                assert_is_state_of(store.checkout(identity), 0, number)
            for number in range(10):
                store.commit(state_of(1, number), run="child", step=number)
            store.close()

        in_child(body)
        assert [info.step for info in store.log("child")] == list(range(9, -1, -1))
        for number in range(10, 20):
            store.commit(state_of(0, number), run="parent")
        assert_is_state_of(store.checkout("child"), 1, 9)
        assert_is_state_of(store.checkout("parent"), 0, 19)
        assert store.fsck("full").findings == ()


@forks
def test_a_forked_child_uses_the_index_as_it_is(path: Path) -> None:
    with casckpt.open(path) as store:
        store.commit(state_of(0, 7), run="r")
        before = os.stat(path / "index" / "data.mdb").st_ino

        def body() -> None:
            assert_is_state_of(store.checkout("r"), 0, 7)
            assert not store._repository.database.rebuilt

        in_child(body)
        assert os.stat(path / "index" / "data.mdb").st_ino == before


@forks
def test_a_forked_child_replays_only_what_the_index_does_not_have(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with casckpt.open(path) as store:
        for number in range(20):
            store.commit(state_of(0, number), run="r", step=number)
        store._repository.database.absorb()
        store.commit({"small": 1}, run="small")

        def fail(journal: Journal) -> None:
            raise AssertionError("the whole journal was read")

        def body() -> None:
            monkeypatch.setattr(Journal, "read_all", fail)
            index_files = {file.name: file.read_bytes() for file in (path / "index").iterdir()}
            for number in range(20):
                assert_is_state_of(store.checkout(f"r@step={number}"), 0, number)
            assert store.checkout("small") == {"small": 1}
            for number in range(5):
                store.commit(state_of(1, number), run="child", step=number)
            in_child(lambda: assert_is_state_of(store.checkout("child"), 1, 4))
            store.close()
            # A copy cannot bring the index up to date; that is left to those who have it open.
            assert {file.name: file.read_bytes() for file in (path / "index").iterdir()} == index_files

        in_child(body)
        assert_is_state_of(store.checkout("child"), 1, 4)
        assert store.fsck("full").findings == ()


@forks
def test_a_repair_in_a_forked_child_gives_everybody_a_new_index(path: Path) -> None:
    with casckpt.open(path) as store:
        store.commit(state_of(0, 7), run="r")
        before = os.stat(path / "index" / "data.mdb").st_ino

        def body() -> None:
            assert store.fsck(repair=True).ok
            store.commit(state_of(0, 8), run="r")

        in_child(body)
        assert os.stat(path / "index" / "data.mdb").st_ino != before
        assert_is_state_of(store.checkout("r"), 0, 8)
        store.commit(state_of(0, 9), run="r")
        assert store.fsck("full").findings == ()


@forks
def test_a_child_forked_while_threads_commit_is_not_hindered_and_hinders_nobody(path: Path) -> None:
    with casckpt.open(path) as store:
        # The first commit imports what commits need. A child forked in the middle of an import would wait forever for
        # a lock of Python's that its parent held, whatever casckpt does.
        store.commit(state_of(99, 0), run="warm")
        done = threading.Event()
        counts = [0, 0]

        def work(thread: int) -> None:
            while not done.is_set() or counts[thread] < 5:
                store.commit(state_of(thread, counts[thread]), run=f"thread-{thread}", step=counts[thread])
                counts[thread] += 1

        def fork() -> None:
            try:
                for child in range(10):

                    def body(child: int = child) -> None:
                        for number in range(8):
                            store.commit(state_of(10 + child, number), run=f"child-{child}", step=number)
                        assert_is_state_of(store.checkout(f"child-{child}"), 10 + child, 7)

                    in_child(body)
            finally:
                done.set()

        together([lambda: work(0), lambda: work(1), fork])
        assert store.status().commits == 1 + sum(counts) + 80
        for child in range(10):
            assert_is_state_of(store.checkout(f"child-{child}"), 10 + child, 7)
        assert store.fsck("full").findings == ()


def _commit_in_child(store: casckpt.Store, worker: int, results: Any) -> None:
    results.put((worker, [store.commit(state_of(worker, n), run="pool", step=n).id for n in range(8)]))


@forks
def test_children_of_multiprocessing_share_the_inherited_store(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with casckpt.open(path) as store:
        store.commit(state_of(0, 0), run="pool")
        results = context.SimpleQueue()
        children = [context.Process(target=_commit_in_child, args=(store, worker, results)) for worker in (1, 2, 3)]
        for child in children:
            child.start()
        mine = [store.commit(state_of(0, number), run="pool").id for number in range(1, 9)]
        made = dict(results.get() for _ in children)
        for child in children:
            child.join()
            assert child.exitcode == 0
        for worker, ids in {**made, 0: mine}.items():
            for number, identity in enumerate(ids, 1 if worker == 0 else 0):
                assert_is_state_of(store.checkout(identity), worker, number)
        assert_is_one_chain(store, "pool", list(store.log("pool")))


def test_a_reader_sees_every_acknowledged_commit_while_a_writer_seals_the_journal(path: Path) -> None:
    with casckpt.open(path) as reader, ended(start("commit", path, "r", 3, 0, 150, seal_frames=7)) as writer:
        acknowledged = 0
        for line in writer.stdout:
            number, identity = line.split()
            acknowledged += 1
            assert_is_state_of(reader.checkout(identity.decode()), 3, int(number))
            steps = [info.step for info in reader.log("r")]
            assert steps == list(range(len(steps) - 1, -1, -1))
            assert len(steps) >= acknowledged
        assert acknowledged == 150
        assert len(os.listdir(path / "journal")) > 15
    with casckpt.open(path) as store:
        assert store.fsck("full").findings == ()
        for number, info in enumerate(reversed(list(store.log("r")))):
            assert_is_state_of(store.checkout(info.id), 3, number)


def test_processes_that_seal_at_the_same_time_lose_nothing(path: Path) -> None:
    writers = [start("commit", path, "shared", worker, 0, 60, seal_frames=5) for worker in range(4)]
    with contextlib.ExitStack() as stack:
        for writer in writers:
            stack.enter_context(ended(writer))
        printed = [writer.stdout.read().splitlines() for writer in writers]
    with casckpt.open(path) as store:
        assert_is_one_chain(store, "shared", list(store.log("shared")))
        for worker, lines in enumerate(printed):
            assert len(lines) == 60
            for line in lines:
                number, identity = line.split()
                assert_is_state_of(store.checkout(identity.decode()), worker, int(number))
        assert store.fsck("full").findings == ()


def test_packs_have_one_number_each_while_another_process_brings_the_index_up_to_date(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an object that is gone would seem to lie in whatever pack took over the number of its own."""
    inner = database_module.read_position
    with casckpt.open(path) as reader, casckpt.open(path) as writer:
        database = reader._repository.database
        storage = writer._repository.storage

        def commit_without_index(number: int) -> None:
            with storage.lock("index", exclusive=True, wait_s=0):
                writer.commit(state_of(number, 7))

        def others_go_on(tables: Any) -> Any:
            monkeypatch.setattr(database_module, "read_position", inner)
            found = inner(tables)
            writer._repository.database.absorb()
            writer.commit(state_of(2, 7))
            commit_without_index(3)
            return found

        commit_without_index(1)
        database.refresh()
        monkeypatch.setattr(database_module, "read_position", others_go_on)
        database.refresh()
        numbers = [tables.decode_pack(value)[0] for _, value in database.tables.scan(tables.PACKS)]
        assert len(numbers) == len(set(numbers)) == 3
