"""What every `Objects` promises; a subclass gives the place, and a second look at it that is not ours if it can."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from casckpt.errors import RemoteUntrusted
from casckpt.storage.objects import Objects, Outcome

PACK = "packs/ab/" + "ab" * 32 + ".00112233"
LARGE = bytes(range(251)) * 40_000
"""10 MB: more than one piece of any answer."""

Look = Callable[[], dict[str, bytes]]


class ObjectsContract:
    """The promises.

    Attributes:
        many: objects of a listing; a page holds 1000.
    """

    many = 1030

    @pytest.fixture
    def objects(self) -> Objects:
        raise NotImplementedError

    @pytest.fixture
    def look(self) -> Look:
        """What is there below the prefix, by key, as somebody else sees it."""
        raise NotImplementedError

    @pytest.fixture
    def others(self, objects: Objects) -> list[Objects]:
        """The same place, opened by several clients."""
        return [objects] * 4

    def fill(self, objects: Objects, keys: list[str]) -> None:
        """Empty objects."""
        for key in keys:
            assert objects.create(key, b"") is Outcome.CREATED

    def test_what_was_created_is_there(self, objects: Objects, look: Look) -> None:
        assert objects.create(PACK, b"one") is Outcome.CREATED
        assert objects.create("casckpt.json", memoryview(b"two")) is Outcome.CREATED
        assert objects.create("root/1", bytearray(b"")) is Outcome.CREATED
        assert look() == {PACK: b"one", "casckpt.json": b"two", "root/1": b""}
        assert objects.get(PACK, limit=3) == b"one"
        assert objects.get("root/1", limit=0) == b""

    def test_a_key_is_created_once_and_keeps_what_came_first(self, objects: Objects, look: Look) -> None:
        assert objects.create("root/1", b"first") is Outcome.CREATED
        assert objects.create("root/1", b"later") is Outcome.EXISTS
        assert objects.create("root/1", b"first") is Outcome.EXISTS
        assert look() == {"root/1": b"first"}

    def test_of_many_who_create_one_key_one_wins(self, others: list[Objects], look: Look) -> None:
        outcomes: dict[int, Outcome] = {}
        gate = threading.Barrier(len(others))

        def create(number: int) -> None:
            gate.wait()
            outcomes[number] = others[number].create("root/1", b"%d" % number)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(len(others))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [number for number, outcome in outcomes.items() if outcome is Outcome.CREATED]
        assert len(winners) == 1
        assert len(outcomes) == len(others)
        assert look() == {"root/1": b"%d" % winners[0]}

    def test_large_objects_go_both_ways(self, objects: Objects, look: Look) -> None:
        assert objects.create(PACK, LARGE) is Outcome.CREATED
        assert look() == {PACK: LARGE}
        assert objects.get(PACK, limit=len(LARGE)) == LARGE
        assert objects.size(PACK) == len(LARGE)

    def test_parts_are_read_as_slices(self, objects: Objects) -> None:
        objects.create("root/1", b"0123456789")
        for start, stop in (
            (0, 4),
            (3, 7),
            (9, 10),
            (0, 10),
            (5, None),
            (0, None),
            (8, 100),
            (4, 4),
            (10, 12),
            (50, 60),
        ):
            assert objects.get("root/1", start, stop, limit=10) == b"0123456789"[start:stop]
        assert objects.get_ranges("root/1", [(8, 10), (0, 3), (4, 5)]) == [b"89", b"012", b"4"]
        assert objects.get_ranges("root/1", []) == []

    def test_more_than_the_limit_is_refused(self, objects: Objects) -> None:
        objects.create("root/1", b"0123456789")
        for start, stop in ((0, None), (0, 10), (4, None)):
            with pytest.raises(RemoteUntrusted):
                objects.get("root/1", start, stop, limit=5)
        assert objects.get("root/1", 4, 9, limit=5) == b"45678"

    def test_a_range_behind_the_end_is_refused(self, objects: Objects) -> None:
        objects.create("root/1", b"0123456789")
        for ranges in ([(8, 11)], [(0, 1), (10, 12)], [(90, 95)]):
            with pytest.raises(RemoteUntrusted):
                objects.get_ranges("root/1", ranges)

    def test_what_is_missing_is_not_found(self, objects: Objects) -> None:
        for call in (
            lambda: objects.get("root/1", limit=10),
            lambda: objects.get("root/1", 3, 5, limit=10),
            lambda: objects.get_ranges("root/1", [(0, 3)]),
        ):
            with pytest.raises(FileNotFoundError):
                call()
        assert objects.size("root/1") is None
        assert list(objects.list("root/")) == []

    def test_listings_are_whole_sorted_and_begin_where_asked(self, objects: Objects) -> None:
        keys = sorted(
            [f"root/{number:020d}" for number in range(1, 6)] + [PACK, PACK[:-1] + "0", "index/a", "packs/b/c"]
        )
        for key in reversed(keys):
            objects.create(key, key.encode())
        assert [one.key for one in objects.list("root/")] == [key for key in keys if key.startswith("root/")]
        assert [one.key for one in objects.list("packs/")] == [key for key in keys if key.startswith("packs/")]
        assert [one.key for one in objects.list("root/", "root/00000000000000000003")] == keys[-2:]
        assert list(objects.list("root/", "root/00000000000000000005")) == []
        assert [one.key for one in objects.list("packs/", PACK)] == [
            key for key in keys if "packs/" in key and key > PACK
        ]
        assert {one.key: one.nbytes for one in objects.list("index/")} == {"index/a": 7}
        assert list(objects.list("pac/")) == []

    def test_a_listing_says_when_objects_were_created(self, objects: Objects) -> None:
        objects.create("root/1", b"a")
        objects.create("root/2", b"b")
        first, second = objects.list("root/")
        assert 0 <= second.time_ns - first.time_ns < 60e9
        assert first.time_ns > 1.6e18

    def test_long_listings_come_in_pages(self, objects: Objects) -> None:
        keys = [f"packs/aa/{number:05d}" for number in range(self.many)]
        self.fill(objects, keys)
        assert [one.key for one in objects.list("packs/")] == keys
        assert [one.key for one in objects.list("packs/", keys[4])] == keys[5:]

    def test_what_was_deleted_is_gone_and_may_be_missing(self, objects: Objects, look: Look) -> None:
        for number in range(4):
            objects.create(f"root/{number}", b"x")
        objects.delete(["root/1", "root/3", "root/9", PACK])
        assert sorted(look()) == ["root/0", "root/2"]
        assert [one.key for one in objects.list("root/")] == ["root/0", "root/2"]
        objects.delete(["root/1"])
        objects.delete([])
        assert objects.size("root/1") is None

    def test_threads_share_one_client(self, objects: Objects) -> None:
        wrong: list[int] = []

        def work(number: int) -> None:
            for turn in range(5):
                key, data = f"packs/{number}/{turn}", b"%d-%d" % (number, turn)
                if objects.create(key, data) is not Outcome.CREATED or objects.get(key, limit=99) != data:
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(list(objects.list("packs/"))) == 20
