"""A push that ends at any request, or meets a collector at any request: it ends as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import casckpt
from casckpt.format.remote import RemoteRoot, root_key
from casckpt.odb.repository import Repository
from casckpt.ops.push import push
from casckpt.remote import roots, sending
from casckpt.remote.folder import RemoteFolder
from casckpt.remote.roots import append_root, new_push_id
from casckpt.remote.view import RemoteView
from casckpt.storage.memory import MemoryStorage
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Objects, Outcome
from tests.support.buckets import chain, newest, store_of
from tests.support.histories import same, training
from tests.support.remotes import Counting, Crash, Crashing, Wrapping


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "_FIRST_PAUSE_S", 0)
    monkeypatch.setattr(sending, "_FIRST_PAUSE_S", 0)
    # Small packs, so that there are several.
    monkeypatch.setattr(sending, "PACK_BYTES", 64 << 10)
    monkeypatch.setattr(sending, "METADATA_PACK_BYTES", 2 << 10)


class Case:
    """A store and a bucket, each as it was before a push."""

    def __init__(self, *, pushed: int) -> None:
        self._states = list(training(4, size=20_000))
        store = casckpt.memory()
        objects = MemoryObjects()
        for number, state in enumerate(self._states):
            self.last = store.commit(state, run="a", step=number, metrics={"loss": 1.0}, best="loss:min").id
            if number + 1 == pushed:
                push(store._repository, objects, "origin", ["a"])
        store.drop("a~1")
        self._files = store._repository.storage.snapshot()  # type: ignore[attr-defined]
        self._objects = {
            listed.key: objects.get(listed.key, limit=1 << 30) for part in ("root/", "index/", "packs/", "casckpt")
            for listed in objects.list(part)
        }  # fmt: skip

    def store(self) -> casckpt.Store:
        return casckpt.Store(Repository(MemoryStorage(self._files)))

    def objects(self) -> MemoryObjects:
        objects = MemoryObjects()
        for key, data in self._objects.items():
            objects.create(key, data)
        return objects

    def check(self, objects: Objects, store: casckpt.Store) -> RemoteRoot:
        """Assert that a bucket and a store are as an undisturbed push leaves them; the newest root."""
        root = newest(objects)
        assert root.refs["runs/a/last"].commit.hex() == self.last
        assert len(root.drops) == 1
        copy = store_of(objects)
        for number, state in enumerate(self._states):
            if number != 2:
                assert same(copy.checkout(f"a~{3 - number}"), state)
        database = store._repository.database
        there = {f"remotes/origin/{name}": ref.commit for name, ref in root.refs.items()}
        assert database.refs("remotes/") == there
        assert database.storage.size("remotes/origin/push") is None
        return root


CASES = {"first": Case(pushed=0), "incremental": Case(pushed=2)}


def pushed(store: casckpt.Store, objects: Objects, **options: Any) -> Any:
    return push(store._repository, objects, "origin", ["a"], **{"concurrency": 1, **options})


def requests_of(case: Case) -> int:
    objects = Counting(case.objects())
    pushed(case.store(), objects)
    return len(objects.requests)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("is_late", [False, True])
def test_a_push_that_dies_at_any_request_ends_as_if_it_had_not(name: str, is_late: bool) -> None:
    case = CASES[name]
    undisturbed = case.objects()
    report = pushed(case.store(), undisturbed)
    for number in range(requests_of(case)):
        objects, store = case.objects(), case.store()
        with pytest.raises(Crash):
            pushed(store, Crashing(objects, number, is_late=is_late))
        again = pushed(store, objects)
        root = case.check(objects, store)
        assert len(chain(objects)) == len(chain(undisturbed))
        assert root.refs.keys() == newest(undisturbed).refs.keys()
        # What arrived and was noted is not sent again: at most the one upload whose answer was lost.
        before, after = (len(list(one.list("packs/"))) for one in (undisturbed, objects))
        assert before <= after <= before + 1
        assert again.packs + again.resumed <= report.packs


@pytest.mark.parametrize("name", CASES)
def test_a_push_that_dies_twice_ends_as_if_it_had_not(name: str) -> None:
    case = CASES[name]
    count = requests_of(case)
    for first in range(0, count, 2):
        for second in range(1, count, 3):
            objects, store = case.objects(), case.store()
            for number in (first, second):
                try:
                    pushed(store, Crashing(objects, number, is_late=bool(first % 4)))
                except Crash:
                    continue
            pushed(store, objects)
            case.check(objects, store)


def collect(objects: Objects, rooms: tuple[str, ...] = ("packs/", "index/"), *, forgets: bool = False) -> None:
    """What a collector without any grace does: condemn everything that no live segment names, and delete it.

    Args:
        rooms: where it looks.
        forgets: whether a second root takes back what is deleted from the list of the condemned.
    """
    view = RemoteView(objects)
    root = view.refresh()
    if root is None:
        return
    live = {one.key for one in root.segments} | {pack.key for segment in view.segments() for pack in segment.packs}
    listed = {one.key for part in rooms for one in objects.list(part)}
    dead = tuple(sorted(listed - live))
    number = root.seq

    def change(now: RemoteRoot) -> RemoteRoot:
        return now if now.seq != number else replace(now, epoch=now.epoch + 1, condemned=dead)

    if append_root(view, change, new_push_id()).seq == number + 1:
        objects.delete(dead)
        if forgets:
            append_root(view, lambda now: replace(now, condemned=()), new_push_id())


class Meeting(Wrapping):
    """A remote where something happens before request number `at`."""

    def __init__(self, inner: Objects, at: int, what: Callable[[], None]) -> None:
        super().__init__(inner)
        self._left = at
        self._what = what

    def before(self, request: str) -> None:
        self._left -= 1
        if self._left == -1:
            self._what()


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("rooms", [("packs/", "index/"), ("index/",)])
def test_a_collector_that_comes_at_any_request_takes_nothing_that_is_needed(rooms, forgets: bool) -> None:
    case = CASES["incremental"]
    for number in range(requests_of(case) + 4):
        objects, store = case.objects(), case.store()
        pushed(store, Meeting(objects, number, lambda bucket=objects: collect(bucket, rooms, forgets=forgets)))
        case.check(objects, store)


def test_a_collector_between_a_crash_and_the_next_try_takes_the_orphans_and_they_are_sent_again() -> None:
    case = CASES["incremental"]
    for number in range(requests_of(case)):
        objects, store = case.objects(), case.store()
        with pytest.raises(Crash):
            pushed(store, Crashing(objects, number, is_late=True))
        collect(objects)
        pushed(store, objects)
        case.check(objects, store)


def collect_and_repeat(objects: MemoryObjects, *, trims: bool) -> set[str]:
    """Remove what no live segment names; then all that arrives a second time. The keys, which are condemned no more.

    Args:
        trims: whether the roots that condemned them go too.
    """
    files = {key: objects.get(key, limit=1 << 30) for key in files_of(objects)}
    collect(objects, forgets=True)
    gone = files.keys() - files_of(objects)
    for key in gone:
        objects.create(key, files[key])
    if trims:
        forget_old_roots(objects)
    return gone


def files_of(objects: Objects) -> set[str]:
    return {one.key for room in ("packs/", "index/") for one in objects.list(room)}


def check_when_removed_once_more(case: Case, objects: MemoryObjects, gone: set[str]) -> None:
    """Assert that what was pushed is there when a late removal has arrived too."""
    objects.delete(sorted(gone))
    forget_old_roots(objects)  # a root that came late may have the number of one that was removed
    store_of(objects)
    assert newest(objects).refs["runs/a/last"].commit.hex() == case.last


def forget_old_roots(objects: MemoryObjects) -> None:
    objects.delete([one.key for one in objects.list("root/")][:-1])


@pytest.mark.parametrize("trims", [False, True])
def test_an_upload_that_comes_again_after_its_removal_is_not_relied_on(trims: bool) -> None:
    case = CASES["incremental"]
    repeated = 0
    for number in range(requests_of(case)):
        objects, store = case.objects(), case.store()
        gone: set[str] = set()

        def meet(bucket: MemoryObjects = objects, gone: set[str] = gone) -> None:
            gone |= collect_and_repeat(bucket, trims=trims)

        pushed(store, Meeting(objects, number, meet))
        repeated += len(gone)
        check_when_removed_once_more(case, objects, gone)
    assert repeated > 3


@pytest.mark.parametrize("is_seen", [False, True], ids=["", "seen by a fetch"])
@pytest.mark.parametrize("trims", [False, True])
def test_an_upload_of_an_interrupted_push_that_comes_again_after_its_removal_is_not_relied_on(trims, is_seen) -> None:
    case = CASES["incremental"]
    repeated = 0
    for number in range(requests_of(case)):
        objects, store = case.objects(), case.store()
        with pytest.raises(Crash):
            pushed(store, Crashing(objects, number, is_late=True))
        gone = collect_and_repeat(objects, trims=trims)
        repeated += len(gone)
        if is_seen:
            RemoteView(objects, RemoteFolder(store._repository.storage, "origin")).refresh()
        pushed(store, objects)
        check_when_removed_once_more(case, objects, gone)
    assert repeated > 3


@pytest.mark.parametrize("name", CASES)
def test_a_push_of_somebody_else_at_any_request_is_no_hindrance(name: str) -> None:
    case = CASES[name]
    for number in range(requests_of(case)):
        objects, store = case.objects(), case.store()
        other = casckpt.memory()
        other.commit({"x": number}, run="other")

        def meet(other: casckpt.Store = other, objects: Objects = objects) -> None:
            push(other._repository, objects, "origin", ["other"])

        pushed(store, Meeting(objects, number, meet))
        assert "runs/other/last" in newest(objects).refs
        assert newest(objects).refs["runs/a/last"].commit.hex() == case.last
        store_of(objects)


def test_a_record_of_what_is_not_here_never_covers_what_somebody_else_pushed_meanwhile() -> None:
    whole = casckpt.memory()
    states = list(training(3))
    for number, state in enumerate(states):
        whole.commit(state, run="a", step=number)
    files = whole._repository.storage.snapshot()  # type: ignore[attr-defined]
    partial = casckpt.Store(Repository(MemoryStorage(files)))
    partial.drop("a~1")
    counting = Counting(MemoryObjects())
    push(partial._repository, counting, "count", ["a"])
    (root,) = (number for number, request in enumerate(counting.requests) if request.startswith("create root/"))
    for number in range(root + 1):
        objects, other = MemoryObjects(), casckpt.Store(Repository(MemoryStorage(files)))

        def meet(objects: Objects = objects, other: casckpt.Store = other) -> None:
            push(other._repository, objects, "origin", ["a"])

        push(partial._repository, Meeting(objects, number, meet), f"at{number}", ["a"])
        assert newest(objects).drops == ()
        assert same(store_of(objects).checkout("a~1"), states[1])


def test_lost_and_double_answers_at_any_request() -> None:
    class Losing(Wrapping):
        def __init__(self, inner: Objects, at: int, kind: str) -> None:
            super().__init__(inner)
            self._left = at
            self._kind = kind

        def create(self, key: str, data: Buffer) -> Outcome:
            self._left -= 1
            if self._left != -1:
                return self.inner.create(key, data)
            if self._kind == "never":
                return Outcome.UNKNOWN
            outcome = self.inner.create(key, data)
            if self._kind == "twice":
                return self.inner.create(key, data)
            return Outcome.UNKNOWN if self._kind == "lost" else outcome

    case = CASES["first"]
    for kind in ("never", "lost", "twice"):
        for number in range(requests_of(case)):
            objects, store = case.objects(), case.store()
            pushed(store, Losing(objects, number, kind))
            case.check(objects, store)
            assert len(chain(objects)) == 1


def test_a_damaged_journal_costs_bytes_only() -> None:
    case = CASES["first"]
    for cut in range(0, 3000, 97):
        objects, store = case.objects(), case.store()
        with pytest.raises(Crash):
            pushed(store, Crashing(objects, 4, is_late=True))
        storage = store._repository.storage
        size = storage.size("remotes/origin/push")
        assert size is not None
        file = storage.open_write("remotes/origin/push")
        if cut < size:
            file.write_at(b"\xff", cut)
        file.truncate(max(size - cut, 0))
        file.close()
        pushed(store, objects)
        case.check(objects, store)


def test_a_trimmed_chain_is_no_hindrance() -> None:
    case = CASES["incremental"]
    objects, store = case.objects(), case.store()
    other = casckpt.memory()
    for number in range(5):
        other.commit({"x": number}, run="other")
        push(other._repository, objects, "origin", ["other"])
    objects.delete([root_key(number) for number in range(1, 6)])
    pushed(store, objects)
    assert newest(objects).seq == 7
    assert newest(objects).refs["runs/a/last"].commit.hex() == case.last
