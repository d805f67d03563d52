"""The log of a remote: what each root changed, as far back as there are roots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from casckpt.errors import RemoteUntrusted
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, Kind, object_id
from casckpt.format.remote import RemoteRef, root_key
from casckpt.ops.push_reports import RemoteMove
from casckpt.ops.remote_log import RemoteConflict, conflicts, remote_log
from casckpt.remote.roots import append_root, new_push_id
from casckpt.remote.view import RemoteView
from casckpt.storage.memory_objects import MemoryObjects

A, B = (CommitId(object_id(Kind.COMMIT, name)) for name in (b"a", b"b"))
LAST = "runs/gpt/last"
PACK = f"packs/00/{'00' * 32}.00000000"


def refs(**named: CommitId) -> dict[str, RemoteRef]:
    return {f"runs/{run}/last": RemoteRef(commit, 7, "me") for run, commit in named.items()}


@pytest.fixture
def view() -> RemoteView:
    """Three pushes, a collection that drops and condemns, and its end."""
    view = RemoteView(MemoryObjects())
    steps: list[tuple[str, dict[str, Any]]] = [
        ("first", {"refs": refs(gpt=A)}),
        ("second", {"refs": refs(gpt=B, other=A)}),
        ("third", {"refs": refs(gpt=B)}),
        ("gc", {"epoch": 1, "condemned": (PACK,), "drops": (Drop(A, None, "unwanted", 3),)}),
        ("gc", {"condemned": ()}),
    ]
    view.refresh()
    for note, fields in steps:
        append_root(view, lambda root, fields=fields: replace(root, **fields), new_push_id(), note=note)
    return view


def test_every_root_tells_what_it_changed(view: RemoteView) -> None:
    found = list(remote_log(view))
    a, b = A.hex(), B.hex()
    assert [(one.root, one.note, one.moves) for one in found] == [
        (5, "gc", ()),
        (4, "gc", ()),
        (3, "third", (RemoteMove("runs/other/last", a, None),)),
        (2, "second", (RemoteMove(LAST, a, b), RemoteMove("runs/other/last", None, a))),
        (1, "first", (RemoteMove(LAST, None, a),)),
    ]
    assert [(one.condemned, one.removed, len(one.dropped)) for one in found] == [
        (0, 1, 0),
        (1, 0, 1),
        *[(0, 0, 0)] * 3,
    ]
    assert not any(one.is_oldest for one in found)
    assert found[1].to_dict()["dropped"] == [{"commit": a, "parts": None, "rule": "unwanted"}]


def test_the_log_ends_where_roots_were_removed(view: RemoteView) -> None:
    view.objects.delete([root_key(1), root_key(2)])
    found = list(remote_log(view))
    assert [one.root for one in found] == [5, 4, 3]
    assert (found[-1].is_oldest, found[-1].moves) == (True, ())


def test_a_root_that_is_not_the_one_before_is_refused(view: RemoteView) -> None:
    other = RemoteView(MemoryObjects())
    other.refresh()
    for number in range(4):
        append_root(other, lambda root, at=number: replace(root, epoch=at), new_push_id())
    view.objects.delete([root_key(4)])
    view.objects.create(root_key(4), other.read_root(4)[1])
    with pytest.raises(RemoteUntrusted):
        list(remote_log(view))


def test_an_empty_remote_has_no_log() -> None:
    view = RemoteView(MemoryObjects())
    assert list(remote_log(view)) == []
    assert conflicts(view.refresh()) == ()


def test_commits_that_lost_a_ref_are_named_with_it() -> None:
    view = RemoteView(MemoryObjects())
    view.refresh()
    name = f"conflicts/{LAST}/{A.hex()[:12]}"
    named = {LAST: RemoteRef(B, 1, "she"), name: RemoteRef(A, 2, "he")}
    root = append_root(view, lambda root: replace(root, refs=named), new_push_id())
    assert conflicts(root) == (RemoteConflict(name, LAST, A.hex(), 2, "he"),)
