"""Reach: the objects that commits need, against a walk over every leaf."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import casckpt
from casckpt.errors import UnreadableCommit
from casckpt.format import chunking
from casckpt.format.commit import Commit
from casckpt.format.ids import CommitId, ObjectId
from casckpt.format.layout import Grouped, Large
from casckpt.format.pack_columns import metadata
from casckpt.odb.database import Database
from casckpt.ops.load import Loader
from casckpt.ops.reach import Loss, Reach
from casckpt.plan.reclaim import STAYS, reached
from tests.support.build import noise

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[casckpt.Store]:
    """Commits with paged leaves, groups and tiny leaves, and one of files that are cut at their members."""
    monkeypatch.setattr(chunking, "INLINE_CHUNKS", 1)
    monkeypatch.setattr(chunking, "PAGE_IDS", 2)
    np.savez(tmp_path / "arrays.npz", **{name: np.frombuffer(noise(name, 400_000), np.uint8) for name in "abcd"})
    with casckpt.init(tmp_path / "s") as made:
        for step in range(3):
            state: dict[str, Any] = {
                "model": {"paged": noise(f"paged {min(step, 1)}", 3 * MIB + 5), "large": noise("large", 300_000)},
                "optimizer": {str(n): noise(f"{step} {n}", 3000) for n in range(9)},
                "rng": noise(f"rng {step}", 50),
            }
            made.commit(state, run="gpt", step=step, config={"lr": 0.1})
        made.commit_path(tmp_path / "arrays.npz", run="files")
        yield made


def database_of(store: casckpt.Store) -> Database:
    store._repository.database.refresh()
    return store._repository.database


def commit_of(store: casckpt.Store, revision: str) -> tuple[CommitId, Commit]:
    identity = CommitId(ObjectId(bytes.fromhex(store.show(revision).id)))
    commit = database_of(store).commit(identity)
    assert commit is not None
    return identity, commit


def walked(store: casckpt.Store, revision: str) -> dict[str, set[bytes]]:
    """What each component of a commit needs, found leaf by leaf."""
    identity, commit = commit_of(store, revision)
    loader = Loader(database_of(store), identity, commit)
    found: dict[str, set[bytes]] = {}
    for loaded in loader.components(loader.tree()):
        ids = found[loaded.name] = {loaded.identity, loaded.component.structure}
        for blob, place in enumerate(loaded.places):
            ids |= {span.chunk for span in loader.spans(loaded, blob)}
            if isinstance(place, Large):
                ids |= {loaded.entry(place.entry + number) for number in range(place.entries)}
    return found


def ids_in(joined: bytes) -> set[bytes]:
    return {joined[at : at + 32] for at in range(0, len(joined), 32)}


def short(ids: set[bytes]) -> set[int]:
    return {int.from_bytes(identity[:8], "little") for identity in ids}


def test_the_states_have_every_way_in_which_leaves_are_kept(store: casckpt.Store) -> None:
    kinds: set[Any] = set()
    for revision in ("gpt", "files"):
        loader = Loader(database_of(store), *commit_of(store, revision))
        for loaded in loader.components(loader.tree()):
            for place in loaded.places:
                kinds.add((place.paged, place.explicit is not None) if isinstance(place, Large) else type(place))
    assert {(True, False), (False, False), (True, True), Grouped} <= kinds


@pytest.mark.parametrize("revision", ["gpt", "gpt~1", "gpt~2", "files"])
@pytest.mark.parametrize("learns", [False, True])
def test_components_reach_what_a_walk_finds(store: casckpt.Store, revision: str, learns: bool) -> None:
    database, (identity, commit) = database_of(store), commit_of(store, revision)
    reach = Reach(database)
    for pack in database.pack_set() if learns else ():
        reach.learn(pack, metadata(database.packs.columns(pack)[0]))
    expected = walked(store, revision)
    components = dict(reach.tree(identity, commit).components)
    assert {name: ids_in(b"".join(reach.ids_of(identity, one))) for name, one in components.items()} == expected
    for name, one in components.items():
        assert set(reach.component(identity, one).tolist()) == short(expected[name])
    assert reach.is_whole(identity, commit)


def test_what_is_forgotten_for_want_of_memory_is_read_again(store: casckpt.Store) -> None:
    identity, commit = commit_of(store, "gpt")
    reach = Reach(database_of(store))
    components = dict(reach.tree(identity, commit).components)
    before = {name: reach.component(identity, one).tolist() for name, one in components.items()}
    plain = {name: reach.plain_bytes(one) for name, one in components.items()}
    assert sum(map(sum, plain.values())) == commit.nbytes
    reach.shrink(0)
    assert {name: reach.component(identity, one).tolist() for name, one in components.items()} == before
    assert {name: reach.plain_bytes(one) for name, one in components.items()} == plain


def metadata_of(commit: Commit) -> set[bytes]:
    return {one for one in (commit.config, commit.environment, commit.code, commit.data) if one is not None}


def test_objects_have_the_ranks_of_the_first_and_the_last_who_lets_go_of_them(store: casckpt.Store) -> None:
    commits = {name: commit_of(store, name) for name in ("gpt", "gpt~1", "gpt~2", "files")}
    losses = {
        "gpt~2": (Loss(0),),
        "gpt~1": (Loss(1, ("optimizer",)), Loss(2)),
        "files": (Loss(3),),
        "gpt": (Loss(4, ("model",)),),
    }
    expected: dict[int, list[int]] = {}
    for name, (_, commit) in commits.items():
        whole = min((one.rank for one in losses[name] if one.parts is None), default=STAYS)
        units = [(metadata_of(commit), STAYS), ({commit.tree}, whole)]
        for part, ids in walked(store, name).items():
            own = (one.rank for one in losses[name] if one.parts is not None and part in one.parts)
            units.append((ids, min([whole, *own])))
        for ids, rank in units:
            for number in short(ids):
                expected.setdefault(number, []).append(rank)
    by_id = {commits[name][0]: of for name, of in losses.items()}
    found = reached(Reach(database_of(store)).holders(commits.values(), by_id))
    ranks = zip(found.first.tolist(), found.last.tolist(), strict=True)
    assert dict(zip(found.ids.tolist(), ranks, strict=True)) == {
        # Of what stays nobody asks who would have let go of it first.
        number: (min(ranks) if max(ranks) < STAYS else STAYS, max(ranks))
        for number, ranks in expected.items()
    }


def damage(store: casckpt.Store, identity: bytes) -> None:
    database = database_of(store)
    row = database.row(ObjectId(identity))
    assert row is not None
    name = database.file_of(row)
    assert name is not None
    file = store._repository.storage.open_write(name)
    file.write_at(b"\xff" * row.stored, row.offset)
    file.close()
    database.packs.close()


LOSSES = [(None, True), (Loss(0, is_final=False), True), (Loss(0), False)]


@pytest.mark.parametrize("unit", ["tree", "component", "structure"])
@pytest.mark.parametrize(("loss", "refuses"), LOSSES, ids=["kept", "grace", "lost"])
def test_damage_matters_unless_what_it_hits_is_lost_for_good(
    store: casckpt.Store, unit: str, loss: Loss | None, refuses: bool
) -> None:
    identity, commit = commit_of(store, "gpt~2")
    reach = Reach(database_of(store))
    loader = Loader(database_of(store), identity, commit)
    name, component = loader.tree().parts[0]
    victims = {"tree": commit.tree, "component": component}
    damage(store, victims.get(unit) or loader.component(name, component).component.structure)
    losses = {} if loss is None else {identity: (loss,)}
    if refuses:
        with pytest.raises(UnreadableCommit, match=identity.hex()[:12]):
            reach.holders([(identity, commit)], losses)
    else:
        needed = reached(reach.holders([(identity, commit)], losses)).needed()
        assert set(needed.tolist()) == short(metadata_of(commit))
    assert not reach.is_whole(identity, commit)


@pytest.mark.parametrize(("loss", "refuses"), [(None, True), (Loss(0, is_final=False), False), (Loss(0), False)])
def test_what_is_not_there_any_more_is_passed_over_where_it_was_lost(
    store: casckpt.Store, loss: Loss | None, refuses: bool
) -> None:
    identity, commit = commit_of(store, "files")
    store.commit({"n": 1}, run="files")
    store.drop(store.show("files~1").id)
    assert Reach(database_of(store)).is_whole(identity, commit)
    assert store.gc(now=True, repack=False).packs == 1
    reach = Reach(database_of(store))
    assert not reach.is_whole(identity, commit)
    if refuses:
        with pytest.raises(UnreadableCommit, match=identity.hex()[:12]):
            reach.holders([(identity, commit)], {})
    else:
        found = reached(reach.holders([(identity, commit)], {identity: (loss,)}))
        assert set(found.ids.tolist()) == short(metadata_of(commit))


def test_a_thinned_commit_is_whole_without_what_it_lost(store: casckpt.Store) -> None:
    identity, commit = commit_of(store, "gpt~2")
    parts = walked(store, "gpt~2")
    lost = parts.pop("optimizer")
    reach = Reach(database_of(store))
    damage(store, dict(reach.tree(identity, commit).components)["optimizer"])
    assert not reach.is_whole(identity, commit)
    assert reach.is_whole(identity, commit, ("optimizer",))
    with pytest.raises(UnreadableCommit):
        reach.holders([(identity, commit)], {identity: (Loss(0, ("model",)),)})
    found = reached(reach.holders([(identity, commit)], {identity: (Loss(0, ("optimizer",)),)}))
    assert set(found.needed().tolist()) == short({commit.tree, *metadata_of(commit)}.union(*parts.values()))
    assert not short(lost) <= set(found.ids.tolist())


@pytest.mark.parametrize("freed", ["tree", "component", "structure"])
def test_what_was_freed_is_told_by_look_ups_alone(
    store: casckpt.Store, monkeypatch: pytest.MonkeyPatch, freed: str
) -> None:
    database = database_of(store)
    identity, commit = commit_of(store, "gpt")
    loader = Loader(database, identity, commit)
    name, component = loader.tree().parts[0]
    rows = [commit.tree, component, loader.component(name, component).component.structure]
    gone = rows[["tree", "component", "structure"].index(freed)]
    look = database.row
    monkeypatch.setattr(database, "row", lambda wanted: None if wanted == gone else look(wanted))
    monkeypatch.setattr(database, "copies", lambda _: pytest.fail("every pack and journal file is looked through"))
    assert not Reach(database).is_whole(identity, commit)
