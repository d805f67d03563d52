from __future__ import annotations

from typing import Any

import pytest

from casckpt.errors import IntegrityError, StorageError
from casckpt.format.canonical import decode
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop, Entry, Mark, PackRef, RefMove
from casckpt.format.ids import CommitId, Kind, ObjectId, PackId, TreeId, object_id
from casckpt.format.pack import Record
from casckpt.odb import tables as t
from casckpt.odb.fold import all_marks, decode_drop, fold, known_gaps, mark_of, note_gaps, repaired_gaps


def name(text: str) -> Any:
    """32 bytes."""
    return text.encode().ljust(32, b"\0")


def commit(run: str = "r", nbytes: int = 5, *parents: CommitId) -> tuple[CommitId, bytes]:
    data = Commit(TreeId(ObjectId(name("tree"))), parents, run, 1, nbytes=nbytes).encode()
    return CommitId(object_id(Kind.COMMIT, data)), data


class Packs:
    """Packs that are lists of (record, plain bytes); None for one that cannot be read."""

    def __init__(
        self, packs: dict[str, list[tuple[Record, bytes]] | None], hints: dict[str, Any] | None = None
    ) -> None:
        self.packs = {name(key): value for key, value in packs.items()}
        self.hint = hints or {}
        self.asked: list[bytes] = []

    def records(self, pack: PackRef) -> list[Record]:
        self.asked.append(pack.id)
        found = self.packs[pack.id]
        if found is None:
            raise IntegrityError(object="a pack", problem="damaged")
        return [record for record, _ in found]

    def hints(self, pack: PackRef) -> dict[str, Any]:
        return self.hint

    def read_plain(self, pack: PackRef, record: Record) -> bytes:
        return next(plain for other, plain in self.packs[pack.id] or () if other == record)


def chunk(text: str, offset: int = 4096) -> tuple[Record, bytes]:
    return Record(name(text), offset, 10, 10, Kind.CHUNK, element=3, flags=1), b"0123456789"


def pack(text: str, nbytes: int = 8192) -> PackRef:
    return PackRef(PackId(name(text)), nbytes)


def folded(*entries: Entry, packs: Packs | None = None) -> t.MemoryTables:
    tables = t.MemoryTables()
    for entry in entries:
        fold(tables, entry, 3, 1000, packs or Packs({}))
    return tables


def row(tables: t.MemoryTables, identity: bytes) -> t.Row | None:
    value = tables.get(t.ROWS, identity)
    return None if value is None else t.Row.decode(identity, value)


def test_objects_of_a_frame_get_rows_into_the_journal() -> None:
    tables = folded(Entry("commit", 1, objects=(chunk("c", 64),)))
    assert row(tables, name("c")) == t.Row(t.IN_JOURNAL | 3, 1064, 10, 10, Kind.CHUNK, 0, 3, 1)


def test_a_commit_of_a_frame_is_kept_with_its_children_and_totals() -> None:
    first, data = commit()
    second, more = commit("r", 7, first)
    entries = [
        Entry("commit", 1, added=99, objects=((Record(first, 64, len(data), len(data), Kind.COMMIT), data),)),
        Entry("commit", 2, objects=((Record(second, 64, len(more), len(more), Kind.COMMIT), more),)),
    ]
    tables = folded(*entries)
    assert t.decode_commit(tables.get(t.COMMITS, first) or b"") == (99, data)
    assert t.decode_commit(tables.get(t.COMMITS, second) or b"") == (None, more)
    assert [key for key, _ in tables.scan(t.CHILDREN)] == [first + second]
    assert t.decode_total(tables.get(t.TOTALS, b"r")) == (2, 12)


def test_folding_a_frame_again_changes_nothing() -> None:
    first, data = commit()
    entry = Entry(
        "commit",
        1,
        added=9,
        refs=(RefMove("runs/r/last", None, first),),
        packs=(pack("p"),),
        objects=((Record(first, 64, len(data), len(data), Kind.COMMIT), data),),
    )
    packs = Packs({"p": [chunk("c")]})
    once, twice = folded(entry, packs=packs), folded(entry, entry, packs=packs)
    for table in t.TABLES:
        assert dict(once.scan(table)) == dict(twice.scan(table)), table


def test_a_commit_whose_bytes_are_not_its_id_or_no_commit_is_not_kept() -> None:
    identity, data = commit()
    wrong = (Record(name("other"), 64, len(data), len(data), Kind.COMMIT), data)
    junk = object_id(Kind.COMMIT, b"junk")
    tables = folded(Entry("commit", 1, objects=(wrong, (Record(junk, 64, 4, 4, Kind.COMMIT), b"junk"))))
    assert list(tables.scan(t.COMMITS)) == []
    assert identity != name("other")


def test_refs_move_and_go() -> None:
    a, b = name("a"), name("b")
    tables = folded(
        Entry("x", 1, refs=(RefMove("runs/r/last", None, a), RefMove("tags/v", None, a))),
        Entry("x", 2, refs=(RefMove("runs/r/last", a, b), RefMove("tags/v", a, None))),
    )
    assert dict(tables.scan(t.REFS)) == {b"runs/r/last": b}


def test_run_settings_are_merged() -> None:
    tables = folded(
        Entry("x", 1, runs={"r": {"best": ["loss", "min"], "other": 1}}),
        Entry("x", 2, runs={"r": {"best": ["acc", "max"]}, "s": {"k": 2}}),
    )
    from casckpt.format.canonical import decode

    settings = {run: decode(value, "settings") for run, value in tables.scan(t.RUNS)}
    assert settings == {b"r": {"best": ["acc", "max"], "other": 1}, b"s": {"k": 2}}


def test_drops_are_recorded_and_taken_back() -> None:
    dropped, thinned, undone = name("a"), name("b"), name("c")
    tables = folded(
        Entry(
            "drop",
            1,
            drops=(
                Drop(dropped, None, "keep_last=1", 5),
                Drop(thinned, ("optimizer",), "thin", 6),
                Drop(undone, None, "x", 7),
            ),
        ),
        Entry("undo", 2, drops=(Drop(undone, None, "x", 8, True),)),
    )
    found = {key: decode_drop(key, value) for key, value in tables.scan(t.DROPS)}
    assert found == {
        dropped: Drop(dropped, None, "keep_last=1", 5),
        thinned: Drop(thinned, ("optimizer",), "thin", 6),
    }


def test_packs_get_numbers_and_rows_and_their_commits_are_kept() -> None:
    identity, data = commit()
    inside = (Record(identity, 8192, len(data), len(data), Kind.COMMIT), data)
    packs = Packs({"p": [chunk("c")], "q": [chunk("d"), inside]}, {"added": [[identity, 77]]})
    tables = folded(Entry("x", 1, packs=(pack("p"), pack("q", 12288))), packs=packs)
    assert t.decode_pack(tables.get(t.PACKS, name("q")) or b"") == (1, 12288)
    assert tables.get(t.NUMBERS, t.number_key(0)) == name("p")
    assert row(tables, name("d")) == t.Row(1, 4096, 10, 10, Kind.CHUNK, 0, 3, 1)
    assert t.decode_commit(tables.get(t.COMMITS, identity) or b"") == (77, data)


@pytest.mark.parametrize("hint", [None, 5, [1], [[1, 2, 3]], [["x", 1]], {"a": 1}, [[b"x", True]], [[b"x", -1]]])
def test_hints_of_any_form_do_no_harm(hint: Any) -> None:
    identity, data = commit()
    inside = (Record(identity, 8192, len(data), len(data), Kind.COMMIT), data)
    tables = folded(Entry("x", 1, packs=(pack("p"),)), packs=Packs({"p": [inside]}, {"added": hint}))
    assert t.decode_commit(tables.get(t.COMMITS, identity) or b"") == (None, data)


def test_a_pack_gives_its_objects_rows_that_the_journal_had_and_none_that_another_pack_has() -> None:
    packs = Packs({"p": [chunk("c", 4096), chunk("j", 8192)], "q": [chunk("c", 640)]})
    tables = folded(
        Entry("x", 1, objects=(chunk("j", 64),)),
        Entry("x", 2, packs=(pack("p"),)),
        Entry("x", 3, packs=(pack("q"),)),
        packs=packs,
    )
    assert row(tables, name("j")) == t.Row(0, 8192, 10, 10, Kind.CHUNK, 0, 3, 1)
    found = row(tables, name("c"))
    assert found is not None and (found.pack, found.offset) == (0, 4096)


def test_what_replaces_a_pack_takes_over_its_rows() -> None:
    packs = Packs({"p": [chunk("c", 4096)], "q": [chunk("c", 640)]})
    tables = folded(
        Entry("x", 1, packs=(pack("p"),)), Entry("repair", 2, packs=(pack("q"),), gone=(pack("p").id,)), packs=packs
    )
    found = row(tables, name("c"))
    assert found is not None and (found.pack, found.offset) == (1, 640)
    assert t.decode_pack(tables.get(t.PACKS, name("p")) or b"") == (0, 0)


def test_a_pack_that_comes_back_keeps_its_number_and_its_rows() -> None:
    packs = Packs({"p": [chunk("c")]})
    tables = folded(
        Entry("x", 1, packs=(pack("p"),)),
        Entry("x", 2, gone=(pack("p").id,)),
        Entry("x", 3, packs=(pack("p"),)),
        packs=packs,
    )
    assert t.decode_pack(tables.get(t.PACKS, name("p")) or b"") == (0, 8192)
    assert row(tables, name("c")) == t.Row(0, 4096, 10, 10, Kind.CHUNK, 0, 3, 1)
    assert tables.get(t.META, b"next") == (1).to_bytes(4, "little")


@pytest.mark.parametrize("again", ["commit", "keep", "repair"])
def test_a_known_pack_that_is_written_again_gives_back_the_rows_that_were_damaged_or_lost(again: str) -> None:
    packs = Packs({"p": [chunk("a"), chunk("b", 8192), chunk("c", 640)], "q": [chunk("c")]})
    first = Entry("x", 1, packs=(pack("q"), pack("p")))
    whole, tables = folded(first, packs=packs), folded(first, packs=packs)
    tables.put(t.ROWS, name("a"), b"\1" + (tables.get(t.ROWS, name("a")) or b"")[1:])
    tables.delete(t.ROWS, name("b"))
    fold(tables, Entry(again, 2, packs=(pack("p"),)), 3, 1000, packs)
    for table in t.TABLES:
        assert dict(tables.scan(table)) == dict(whole.scan(table)), table


def test_a_known_pack_that_a_snapshot_restates_is_not_read_again() -> None:
    packs = Packs({"p": [chunk("c")]})
    folded(Entry("x", 1, packs=(pack("p"),)), Entry("snapshot", 2, packs=(pack("p"),)), packs=packs)
    assert packs.asked == [name("p")]


@pytest.mark.parametrize("error", [IntegrityError, StorageError, FileNotFoundError])
def test_a_pack_that_cannot_be_read_is_listed_all_the_same(error: type[Exception]) -> None:
    class Broken(Packs):
        def records(self, pack: PackRef) -> list[Record]:
            raise error

    tables = folded(Entry("x", 1, packs=(pack("p"),)), packs=Broken({}))
    assert t.decode_pack(tables.get(t.PACKS, name("p")) or b"") == (0, 8192)


def test_a_snapshot_is_no_news_for_tables_that_hold_what_it_restates() -> None:
    identity, data = commit()
    packs = Packs({"p": [chunk("c")], "q": [chunk("d")]})
    tables = folded(
        Entry(
            "commit",
            1,
            refs=(RefMove("runs/r/last", None, identity),),
            runs={"r": {"best": ["a", "min"]}},
            drops=(Drop(identity, None, "x", 1),),
            packs=(pack("p"), pack("q")),
            objects=((Record(identity, 64, len(data), len(data), Kind.COMMIT), data),),
        ),
        Entry("snapshot", 2, reset=bytes(16), packs=(pack("q"),)),
        packs=packs,
    )
    for table in (t.REFS, t.RUNS, t.DROPS):
        assert len(list(tables.scan(table))) == 1
    assert t.decode_pack(tables.get(t.PACKS, name("p")) or b"") == (0, 8192)
    assert t.decode_pack(tables.get(t.PACKS, name("q")) or b"") == (1, 8192)
    assert tables.get(t.COMMITS, identity) is not None
    assert packs.asked == [name("p"), name("q")]


def repair(*gaps: Any) -> Entry:
    return Entry("repair", 1, extra={"gaps": list(gaps)})


def test_gaps_are_known_until_a_repair_has_gone_over_them() -> None:
    tables = t.MemoryTables()
    assert known_gaps(tables) == []
    note_gaps(tables, [(0, 100, 200), (0, 500, 600)])
    note_gaps(tables, [(0, 500, 600), (1, 100, 150), (1, 150, 180)])
    assert known_gaps(tables) == [(0, 100, 200), (0, 500, 600), (1, 100, 150), (1, 150, 180)]
    over = t.MemoryTables(tables)
    fold(over, repair([0, 500, 600]), 1, 0, Packs({}))
    assert known_gaps(over) == [(0, 100, 200), (1, 100, 150), (1, 150, 180)]
    # A gap that was met in two parts is one to a check that reads the whole file.
    fold(over, repair([1, 100, 180], [0, 101, 200]), 1, 0, Packs({}))
    assert known_gaps(over) == [(0, 100, 200)]


@pytest.mark.parametrize("listed", [None, 5, [[1, 2]], [[1, 2, "x"]], [[[1], 2, 3]], [[1, 2, True]], {"a": 1}])
def test_gaps_of_any_form_do_no_harm(listed: Any) -> None:
    assert repaired_gaps(Entry("repair", 1, extra={"gaps": listed})) == []
    assert repaired_gaps(Entry("other", 1, extra={"gaps": [[1, 2, 3]]})) == []
    tables = t.MemoryTables()
    tables.put(t.META, b"gaps", b"\xc1 no canonical value")
    assert known_gaps(tables) == []


def test_marks_are_kept_by_commit_until_they_are_taken_back() -> None:
    a, b = CommitId(name("a")), CommitId(name("b"))
    pin = {"time": 1, "until": None}
    tables = folded(
        Entry("x", 1, marks=(Mark(a, "note", None, "first"), Mark(a, "pin", None, pin), Mark(b, "note", None, "b"))),
        Entry("x", 2, marks=(Mark(a, "note", "first", "second"), Mark(b, "note", "b", None))),
    )
    assert [mark_of(tables, a, key) for key in ("note", "pin", "other")] == ["second", pin, None]
    assert mark_of(tables, b, "note") is None
    assert sorted(all_marks(tables)) == [(a, "note", "second"), (a, "pin", pin)]


def test_a_setting_of_nil_is_none_and_a_run_without_settings_has_no_row() -> None:
    tables = folded(
        Entry("x", 1, runs={"r": {"best": ["loss", "min"], "other": 1}, "s": {"k": 2}}),
        Entry("x", 2, runs={"r": {"best": None}, "s": {"k": None}, "t": {"k": None}}),
    )
    assert {run: decode(value, "x") for run, value in tables.scan(t.RUNS)} == {b"r": {"other": 1}}


def carrying(*commits: tuple[CommitId, bytes]) -> Entry:
    return Entry(
        "x", 1, objects=tuple((Record(one, 64, len(data), len(data), Kind.COMMIT), data) for one, data in commits)
    )


def totals(tables: t.MemoryTables) -> dict[bytes, tuple[int, int]]:
    return {run: t.decode_total(value) for run, value in tables.scan(t.TOTALS)}


RENAME = Entry("x", 2, runs={"r": {"renamed": [[1, "n"]]}})
BACK = Entry("x", 3, runs={"r": {"renamed": None}})


def test_commits_count_for_the_name_their_run_has_now_in_whatever_order_they_are_met() -> None:
    made = carrying(commit("r", 5), commit("r", 7, CommitId(name("p"))), commit("s", 1))
    for entries in ((made, RENAME), (RENAME, made), (RENAME, BACK, made, RENAME)):
        assert totals(folded(*entries)) == {b"n": (2, 12), b"s": (1, 1)}
    assert totals(folded(made, RENAME, BACK)) == {b"r": (2, 12), b"s": (1, 1)}


def test_a_rename_that_is_restated_is_no_news() -> None:
    tables = folded(carrying(commit("r", 5)), RENAME)
    tables.put(t.TOTALS, b"n", t.encode_total(9, 9))
    fold(tables, RENAME, 3, 1000, Packs({}))
    assert totals(tables) == {b"n": (9, 9)}


def test_renames_that_are_no_renames_mean_nothing() -> None:
    hostile = [[1], "x", [1, 2], ["1", "n"], [1, ""], [1, "n" * 300], [True, "n"]]
    assert totals(folded(carrying(commit("r", 5)), Entry("x", 2, runs={"r": {"renamed": hostile}}))) == {b"r": (1, 5)}
