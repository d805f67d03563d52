"""A remote that lies, was changed, or was set back: nothing of it becomes visible, and the journal is as it was."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import casckpt
from casckpt.errors import CasckptError, FormatError, IntegrityError, NotOnRemote, RemoteUntrusted, RolledBack
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, Kind, ObjectId, TreeId, object_id
from casckpt.format.objects import Component, Structure, Tree
from casckpt.format.pack import Record
from casckpt.format.remote import RemoteRef, root_key
from casckpt.odb import tables
from casckpt.ops.fetch import fetch
from casckpt.ops.pull import pull
from tests.support.build import Pack, identity, noise, root_file, zstd
from tests.support.remote_content import HandMade, Watched, upload
from tests.unit.ops.test_fetch import journal, repository_of, rules, state, tracking
from tests.unit.ops.test_pull import committed, refs

MIB = 1 << 20
_NUMBERS = count()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path / "target") as made:
        made.commit({"mine": 1}, run="mine")
        yield made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[casckpt.Store]:
    with casckpt.init(tmp_path_factory.mktemp("source") / "s") as made:
        committed(made, 0, 1)
        yield made


def refused(store: casckpt.Store, remote: Any, *kinds: type[CasckptError], name: str = "") -> list[CasckptError]:
    """What fetch and pull raise of a remote; the store is then as it was, but for objects that nothing names."""
    objects = remote.objects if isinstance(remote, HandMade) else remote
    # Another name is another remote, which was never seen before.
    name = name or f"r{next(_NUMBERS)}"
    before = refs(store), tracking(store), rules(store), {one.id for one in store.log()}
    found: list[CasckptError] = []
    for call in (
        lambda: fetch(repository_of(store), objects, name),
        lambda: pull(repository_of(store), objects, name, everything=True),
    ):
        with pytest.raises(kinds or (RemoteUntrusted,)) as caught:
            call()
        found.append(caught.value)
        assert "\x1b" not in str(caught.value)
        assert (refs(store), tracking(store), rules(store), {one.id for one in store.log()}) == before
    assert store.fsck("full").ok
    return found


# ---- roots


def test_a_remote_that_was_set_back_is_refused(source: casckpt.Store, target: casckpt.Store) -> None:
    remote = HandMade()
    upload(repository_of(source), remote)
    old = dict(remote.objects._objects)
    remote.append(*remote.root.segments)  # type: ignore[union-attr]
    fetch(repository_of(target), remote.objects, "origin")
    before = journal(target)
    remote.objects._objects = old
    refused(target, remote, RolledBack, name="origin")
    assert journal(target) == before


def test_an_old_root_under_a_new_number_is_refused(source: casckpt.Store, target: casckpt.Store) -> None:
    remote = HandMade()
    upload(repository_of(source), remote)
    fetch(repository_of(target), remote.objects, "origin")
    before = journal(target)
    data = remote.objects.get(root_key(1), limit=MIB)
    remote.objects.create(root_key(2), data)
    refused(target, remote, RemoteUntrusted, RolledBack, name="origin")
    assert journal(target) == before


def test_a_root_of_another_history_is_refused(source: casckpt.Store, target: casckpt.Store) -> None:
    remote, other = HandMade(), HandMade()
    upload(repository_of(source), remote)
    fetch(repository_of(target), remote.objects, "origin")
    before = journal(target)
    upload(repository_of(source), other, refs={})
    other.append(*other.root.segments)  # type: ignore[union-attr]
    refused(target, other, RolledBack, name="origin")
    assert journal(target) == before


@pytest.mark.parametrize("cut", [0, 1, 30, -1])
def test_a_root_cut_short_is_refused(cut: int, source: casckpt.Store, target: casckpt.Store) -> None:
    remote = HandMade()
    upload(repository_of(source), remote)
    before = journal(target)
    refused(target, Watched(remote.objects, changed=lambda key, data: data[:cut] if key.startswith("root/") else data))
    assert journal(target) == before


def test_a_root_that_unpacks_to_more_than_it_says_is_refused(target: casckpt.Store) -> None:
    remote = HandMade()
    remote.objects.create(root_key(1), root_file(b"", codec=1, length=1000, stored=zstd(bytes(64 * MIB))[:900]))
    refused(target, remote)


def test_segments_that_were_changed_are_refused(source: casckpt.Store, target: casckpt.Store) -> None:
    remote = HandMade()
    upload(repository_of(source), remote)
    before = journal(target)
    for change in (lambda data: data[:-1], lambda data: data[:90] + b"\0" + data[91:], lambda data: data + b"\0"):

        def changed(key: str, data: bytes, change: Callable[[bytes], bytes] = change) -> bytes:
            return change(data) if key.startswith("index/") else data

        refused(target, Watched(remote.objects, changed=changed))
    assert journal(target) == before


# ---- names


@pytest.mark.parametrize(
    "ref",
    [
        "runs/a b/last",
        "runs/-x/last",
        "runs/a~1/last",
        "runs/a\u202eb/last",
        "tags/.hidden",
        "tags/last",
        "runs/x:y/best",
    ],
)
def test_a_ref_that_no_store_could_have_is_refused(ref: str, source: casckpt.Store, target: casckpt.Store) -> None:
    remote = HandMade()
    last = repository_of(source).database.refs()["runs/gpt/last"].hex()
    upload(repository_of(source), remote, refs={ref: last})
    before = journal(target)
    refused(target, remote)
    assert journal(target) == before


def test_refs_that_are_no_runs_or_tags_are_passed_over(source: casckpt.Store, target: casckpt.Store) -> None:
    last = repository_of(source).database.refs()["runs/gpt/last"].hex()
    remote = HandMade()
    upload(
        repository_of(source), remote, refs={"remotes/origin/runs/x/last": last, "HEAD": last, "runs/gpt/last": last}
    )
    report = fetch(repository_of(target), remote.objects, "origin")
    assert [move.ref for move in report.refs] == ["runs/gpt/last"]
    assert list(tracking(target)) == ["remotes/origin/runs/gpt/last"]


def test_a_ref_to_nothing_is_an_error(source: casckpt.Store, target: casckpt.Store) -> None:
    remote = HandMade()
    upload(repository_of(source), remote, refs={"runs/gpt/last": "ab" * 32})
    before = journal(target)
    refused(target, remote, NotOnRemote)
    assert journal(target) == before


def test_rules_of_drops_reach_no_terminal_as_they_are(source: casckpt.Store, target: casckpt.Store) -> None:
    remote = HandMade()
    last = repository_of(source).database.refs()["runs/gpt/last"]
    upload(repository_of(source), remote, drops=(Drop(last, None, "\x1b[2Jgone", 1),))
    before = journal(target)
    refused(target, remote)
    assert journal(target) == before


@pytest.mark.parametrize(
    "settings",
    [
        {"best": "loss"},
        {"best": ["loss", "most"]},
        {"finished": {"time": "now"}},
        {"renamed": [[1, "../x"]]},
        {"renamed": [[1]]},
    ],
)
def test_settings_that_cannot_be_are_refused(
    settings: dict[str, Any], source: casckpt.Store, target: casckpt.Store
) -> None:
    remote = HandMade()
    upload(repository_of(source), remote, runs={"gpt": settings})
    before = journal(target)
    refused(target, remote)
    assert journal(target)[0][: len(before[0])] == before[0]


def test_what_a_remote_says_of_a_run_that_is_here_changes_nothing(target: casckpt.Store, tmp_path: Path) -> None:
    remote = HandMade()
    with casckpt.init(tmp_path / "other") as other:
        other.commit({"theirs": 1}, run="mine", metrics={"loss": 1}, best="loss:min")
        said = {"best": ["loss", "min"], "renamed": [[1 << 62, "stolen"]], "retention": {"keep_last": 0}}
        upload(repository_of(other), remote, runs={"mine": said})
    fetch(repository_of(target), remote.objects, "origin")
    assert repository_of(target).database.run_settings("mine") == {}
    assert [one.run for one in target.log("mine")] == ["mine"]


# ---- objects


class Hostile:
    """A remote with one commit, of objects as they are given."""

    def __init__(self) -> None:
        self.pack = Pack()
        self.remote = HandMade()

    def add(self, kind: Kind, data: bytes, **wrong: Any) -> ObjectId:
        self.pack.add(data, kind=kind, **wrong)
        return self.pack.records[-1].id

    def publish(self, tree: ObjectId, **fields: Any) -> HandMade:
        facts: dict[str, Any] = {"run": "gpt", "time_ns": 5, "kind": "step", "status": "completed", "parents": ()}
        commit = Commit(tree=TreeId(tree), **{**facts, **fields})
        tip = CommitId(self.add(Kind.COMMIT, commit.encode()))
        self.remote.publish(self.pack, refs={"runs/gpt/last": RemoteRef(tip, 1, "x")})
        return self.remote


def leaf(hostile: Hostile, **wrong: Any) -> tuple[ObjectId, ObjectId]:
    """(component, chunk) of a state of one blob of 300 000 bytes."""
    chunk = hostile.add(Kind.CHUNK, noise("chunk", 300_000), **wrong)
    structure = hostile.add(Kind.STRUCTURE, Structure([9, 0], (300_000,), b"\0", ()).encode())
    return hostile.add(Kind.COMPONENT, Component(structure, [], b"", chunk).encode()), chunk


def test_a_commit_of_a_run_that_cannot_be_is_refused(target: casckpt.Store) -> None:
    for run in ("../../x", "\x1b[31m", "a b", ""):
        hostile = Hostile()
        component, _ = leaf(hostile)
        refused(target, hostile.publish(hostile.add(Kind.TREE, Tree(component, ()).encode()), run=run))


def test_an_object_of_another_kind_is_refused(target: casckpt.Store) -> None:
    hostile = Hostile()
    component, chunk = leaf(hostile)
    for wrong in (component, chunk):
        hostile = Hostile()
        leaf(hostile)
        refused(target, hostile.publish(wrong))


def test_objects_that_match_their_id_and_are_none_are_refused(target: casckpt.Store) -> None:
    structure = Structure([9, 0], (300_000,), b"\0", ()).encode()

    def tree_of(one: Hostile, component: bytes) -> ObjectId:
        return one.add(Kind.TREE, Tree(one.add(Kind.COMPONENT, component), ()).encode())

    def component_of(one: Hostile, structure: bytes) -> bytes:
        return Component(one.add(Kind.STRUCTURE, structure), [], b"", b"").encode()

    wrong: list[Callable[[Hostile], ObjectId]] = [
        lambda one: one.add(Kind.TREE, b"\xc1"),
        lambda one: tree_of(one, b"\x80"),
        lambda one: tree_of(one, component_of(one, b"\x90")),
        lambda one: tree_of(one, component_of(one, structure)),  # a blob without its chunk
    ]
    for make in wrong:
        hostile = Hostile()
        refused(target, hostile.publish(make(hostile)))


def test_a_state_without_one_of_its_objects_is_refused(target: casckpt.Store) -> None:
    hostile = Hostile()
    structure = hostile.add(Kind.STRUCTURE, Structure([9, 0], (300_000,), b"\0", ()).encode())
    component = hostile.add(Kind.COMPONENT, Component(structure, [], b"", identity("nowhere")).encode())
    refused(target, hostile.publish(hostile.add(Kind.TREE, Tree(component, ()).encode())), NotOnRemote)


def test_another_object_under_an_id_is_refused(target: casckpt.Store) -> None:
    hostile = Hostile()
    component, _ = leaf(hostile, id=object_id(Kind.CHUNK, noise("wanted", 300_000)))
    errors = refused(target, hostile.publish(hostile.add(Kind.TREE, Tree(component, ()).encode())))
    assert all("do not match its id" in str(error) for error in errors)


def test_lengths_that_lie_are_refused(target: casckpt.Store) -> None:
    def published(change: Callable[[Record], Record]) -> HandMade:
        hostile = Hostile()
        component, chunk = leaf(hostile)
        tree = hostile.add(Kind.TREE, Tree(component, ()).encode())
        commit = Commit(tree=TreeId(tree), parents=(), run="gpt", time_ns=5)
        tip = CommitId(hostile.add(Kind.COMMIT, commit.encode()))
        records = [change(one) if one.id == chunk else one for one in hostile.pack.records]
        made = hostile.remote
        segment = made.add_segment({made.add_pack(hostile.pack): records})
        made.append(segment, refs={"runs/gpt/last": RemoteRef(tip, 1, "x")})
        return made

    changes: list[Callable[[Record], Record]] = [
        lambda one: one._replace(length=1000, stored=1000),
        lambda one: one._replace(length=300_001, stored=300_001),
        lambda one: one._replace(offset=one.offset + 64),
        lambda one: one._replace(codec=1, length=MIB, stored=one.stored),
        lambda one: one._replace(codec=4),
        lambda one: one._replace(kind=int(Kind.META)),
    ]
    for change in changes:
        refused(target, published(change), RemoteUntrusted, IntegrityError, FormatError)


def test_paths_that_lead_out_are_stored_and_never_written(target: casckpt.Store, tmp_path: Path) -> None:
    """A tree says what its paths are; who restores it refuses those that lead out."""
    outside = tmp_path / "outside"
    with casckpt.init(tmp_path / "evil") as evil:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.txt").write_text("evil")
        evil.commit_path(tmp_path / "in", run="files")
        remote = HandMade()
        database = repository_of(evil).database
        changed = Pack()
        renamed: dict[bytes, bytes] = {}
        for kind in (Kind.CHUNK, Kind.STRUCTURE, Kind.COMPONENT, Kind.TREE, Kind.COMMIT):
            for key, _ in sorted(database.tables.scan(tables.ROWS)):
                row = database.row(key)
                if row is not None and row.kind == kind:
                    data = bytes(database.read(ObjectId(key), kind)).replace(b"a.txt", b"../.t")
                    for old, new in renamed.items():
                        data = data.replace(old, new)
                    changed.add(data, kind=kind)
                    renamed[bytes(key)] = changed.records[-1].id
        tip = next(record.id for record in changed.records if record.kind == Kind.COMMIT)
        remote.publish(changed, refs={"runs/files/last": RemoteRef(CommitId(tip), 1, "x")})
    pull(repository_of(target), remote.objects, "origin", ["files"])
    with pytest.raises(CasckptError):
        target.checkout_path("files", outside / "deep")
    assert not list(tmp_path.rglob(".t"))


def test_a_long_line_of_parents_needs_no_recursion(target: casckpt.Store) -> None:
    hostile = Hostile()
    component, _ = leaf(hostile)
    tree = hostile.add(Kind.TREE, Tree(component, ()).encode())
    parents: tuple[CommitId, ...] = ()
    for number in range(3000):
        commit = Commit(tree=TreeId(tree), parents=parents, run="gpt", time_ns=number + 1)
        parents = (CommitId(hostile.add(Kind.COMMIT, commit.encode())),)
    remote = hostile.publish(tree, parents=parents, time_ns=5000)
    watched = Watched(remote.objects)
    assert fetch(repository_of(target), watched, "origin").commits == 3001
    assert len(watched.requests) < 12


def test_a_remote_that_is_right_again_is_fetched(source: casckpt.Store, target: casckpt.Store) -> None:
    remote = HandMade()
    upload(repository_of(source), remote)

    def spoiled(key: str, data: bytes) -> bytes:
        return bytes(len(data)) if key.startswith("packs/") else data

    refused(target, Watched(remote.objects, changed=spoiled))
    pull(repository_of(target), remote.objects, "origin", everything=True)
    assert target.checkout("gpt")["step"] == state(1)["step"]
