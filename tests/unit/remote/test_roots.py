"""The next root: one of many wins, and whatever became of an answer, everybody finds out what happened."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from casckpt.errors import OutcomeUnknown, RemoteUnavailable
from casckpt.format.ids import Kind, object_id
from casckpt.format.remote import RemoteRef, RemoteRoot, root_key
from casckpt.remote import roots
from casckpt.remote.roots import append_root, new_push_id
from casckpt.remote.view import RemoteView
from casckpt.storage.memory_objects import MemoryObjects
from casckpt.storage.objects import Buffer, Listed, Outcome
from tests.support.remotes import Counting, Wrapping


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "_FIRST_PAUSE_S", 0)


def adding(name: str):
    def change(root: RemoteRoot) -> RemoteRoot:
        if name in root.refs:
            return root
        return replace(root, refs={**root.refs, name: RemoteRef(object_id(Kind.COMMIT, name.encode()), 1, "me")})

    return change


def add(view: RemoteView, name: str) -> RemoteRoot:
    view.refresh()
    return append_root(view, adding(name), new_push_id())


class Answering(Wrapping):
    """A remote whose answers to the uploads of roots are made up: one of `script` for each."""

    def __init__(self, inner: MemoryObjects, script: str) -> None:
        super().__init__(inner)
        self._script: Iterator[str] = iter(script)
        self.late: list[tuple[str, bytes]] = []

    def create(self, key: str, data: Buffer) -> Outcome:
        word = next(self._script, "o") if key.startswith("root/") else "o"
        if word == "l":  # it came through, the answer was lost
            self.inner.create(key, data)
            return Outcome.UNKNOWN
        if word == "n":  # it never came through
            return Outcome.UNKNOWN
        if word == "g":  # it comes through later
            self.late.append((key, bytes(data)))
            return Outcome.UNKNOWN
        if word == "d":  # it came twice
            self.inner.create(key, data)
            return self.inner.create(key, data)
        if word == "f":  # two uploads at once, of which neither was taken
            return Outcome.EXISTS
        return self.inner.create(key, data)

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        for key, data in self.late:
            self.inner.create(key, data)
        self.late.clear()
        return self.inner.list(prefix, after)


def chain(objects: MemoryObjects) -> list[RemoteRoot]:
    view = RemoteView(objects)
    found = [view.read_root(seq) for seq in sorted(view.numbers(0))]
    assert [root.seq for root, _ in found] == list(range(1, len(found) + 1))
    for (_, before), (root, _) in itertools.pairwise(found):
        assert root.prev == roots.checksum(before)
    return [root for root, _ in found]


def test_a_root_costs_one_upload_and_one_listing() -> None:
    objects = Counting(MemoryObjects())
    view = RemoteView(objects)
    add(view, "runs/a/last")
    objects.requests.clear()
    made = append_root(view, adding("runs/b/last"), new_push_id(), note="why")
    assert objects.requests == [f"create {root_key(2)}", "list root/"]
    assert made is view.root
    assert (made.seq, made.push.note) == (2, "why")
    assert RemoteView(objects).refresh() == made


def test_a_change_that_changes_nothing_writes_nothing() -> None:
    objects = Counting(MemoryObjects())
    view = RemoteView(objects)
    made = add(view, "runs/a/last")
    objects.requests.clear()
    assert append_root(view, adding("runs/a/last"), new_push_id()) is made
    assert objects.requests == []


@pytest.mark.parametrize(
    "script", ["".join(word) for size in (1, 2, 3) for word in itertools.product("lngdf", repeat=size)]
)
def test_lost_late_double_and_false_answers_end_in_one_root_for_each_push(script: str) -> None:
    store = MemoryObjects()
    mine, other = RemoteView(Answering(store, script)), RemoteView(store)
    add(other, "runs/first/last")
    add(mine, "runs/mine/last")
    add(other, "runs/other/last")
    assert [sorted(root.refs) for root in chain(store)] == [
        ["runs/first/last"],
        ["runs/first/last", "runs/mine/last"],
        ["runs/first/last", "runs/mine/last", "runs/other/last"],
    ]


def test_who_was_second_starts_again_from_the_root_of_the_first() -> None:
    store = MemoryObjects()
    mine, other = RemoteView(store), RemoteView(store)
    mine.refresh()
    add(other, "runs/other/last")
    made = append_root(mine, adding("runs/mine/last"), new_push_id())
    assert sorted(made.refs) == ["runs/mine/last", "runs/other/last"]
    assert len(chain(store)) == 2


def test_a_change_that_is_out_of_date_is_refused_by_itself() -> None:
    class Moved(Exception):
        pass

    def only_first(root: RemoteRoot) -> RemoteRoot:
        if root.refs:
            raise Moved
        return adding("runs/mine/last")(root)

    store = MemoryObjects()
    mine, other = RemoteView(store), RemoteView(store)
    mine.refresh()
    add(other, "runs/other/last")
    with pytest.raises(Moved):
        append_root(mine, only_first, new_push_id())
    assert len(chain(store)) == 1


def test_a_number_that_was_used_and_removed_before_does_not_count() -> None:
    """A writer that slept while others went on and removed old roots creates an old number: nobody will read it."""
    store = MemoryObjects()
    mine, other = RemoteView(store), RemoteView(store)
    add(mine, "runs/first/last")
    for number in range(4):
        add(other, f"runs/{number}/last")
    store.delete([root_key(number) for number in (1, 2, 3)])
    made = append_root(mine, adding("runs/mine/last"), new_push_id())
    assert made.seq == 6
    assert RemoteView(store).refresh() == made
    assert "runs/3/last" in made.refs

    late = RemoteView(store)
    late.refresh()
    late.adopt(*_root_three(store))
    store.delete([root_key(5)])
    store.delete([root_key(4)])
    made = append_root(late, adding("runs/late/last"), new_push_id())
    assert made.seq == 7


def _root_three(store: MemoryObjects) -> tuple[RemoteRoot, bytes]:
    view = RemoteView(store)
    view.refresh()
    assert view.root is not None
    root = replace(view.root, seq=3)
    return root, root.encode()


def test_without_any_answer_the_outcome_is_unknown_and_doing_it_again_settles_it() -> None:
    class Deaf(Wrapping):
        is_deaf = False

        def create(self, key: str, data: Buffer) -> Outcome:
            outcome = self.inner.create(key, data)
            return Outcome.UNKNOWN if self.is_deaf else outcome

        def before(self, request: str) -> None:
            if self.is_deaf:
                raise RemoteUnavailable(remote=self.url, operation=request, problem="no route")

    objects = Deaf(MemoryObjects())
    view = RemoteView(objects)
    add(view, "runs/a/last")
    objects.is_deaf = True
    with pytest.raises(OutcomeUnknown, match="no route"):
        append_root(view, adding("runs/b/last"), new_push_id())
    objects.is_deaf = False
    view.refresh()
    assert append_root(view, adding("runs/b/last"), new_push_id()).seq == 2


def test_of_many_who_push_at_once_each_gets_a_root_of_its_own() -> None:
    store = MemoryObjects()

    def push(name: int) -> None:
        view = RemoteView(store)
        for number in range(5):
            add(view, f"runs/{name}-{number}/last")

    threads = [threading.Thread(target=push, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = chain(store)
    assert len(found) == 30
    assert len(found[-1].refs) == 30


def test_the_first_root_describes_the_remote_once() -> None:
    store = MemoryObjects()
    one, two = RemoteView(store), RemoteView(store)
    one.refresh()
    two.refresh()
    add(one, "runs/a/last")
    about = store.get("casckpt.json", limit=1 << 16)
    append_root(two, adding("runs/b/last"), new_push_id())
    assert store.get("casckpt.json", limit=1 << 16) == about
