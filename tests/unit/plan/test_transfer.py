"""What of a history goes to a remote."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from casckpt.format.canonical import encode
from casckpt.format.commit import Commit
from casckpt.format.entry import Drop
from casckpt.format.ids import CommitId, Kind, ObjectId, TreeId, object_id
from casckpt.plan.transfer import fresh, merged_drops, packs_for

COUNT = 12
IDS = [CommitId(object_id(Kind.COMMIT, bytes([number]))) for number in range(COUNT)]


def history(parents: list[set[int]]) -> dict[CommitId, Commit]:
    return {
        IDS[number]: Commit(TreeId(ObjectId(bytes(32))), tuple(IDS[one] for one in sorted(of)), "a", time_ns=number + 1)
        for number, of in enumerate(parents)
    }


def reached(commits: dict[CommitId, Commit], starts: set[CommitId]) -> set[CommitId]:
    found: set[CommitId] = set()
    waiting = [one for one in starts if one in commits]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += [parent for parent in commits[one].parents if parent in commits]
    return found


@given(
    st.lists(st.sets(st.integers(0, COUNT - 1), max_size=3), min_size=COUNT, max_size=COUNT),
    st.sets(st.sampled_from(IDS), min_size=1, max_size=4),
    st.sets(st.sampled_from(IDS), max_size=4),
    st.sets(st.sampled_from(IDS), max_size=2),
)
def test_fresh_are_the_commits_that_ours_lead_to_and_theirs_do_not(parents, ours, theirs, unknown) -> None:
    commits = history([{one for one in of if one < number} for number, of in enumerate(parents)])
    for one in unknown:
        del commits[one]
    found = fresh(ours, theirs, commits.get)
    assert [one for one, _ in found] == sorted(
        reached(commits, ours) - reached(commits, theirs), key=lambda one: -commits[one].time_ns
    )


def test_a_short_way_to_what_is_known_does_not_walk_the_rest() -> None:
    commits = history([{number - 1} if number else set() for number in range(COUNT)])
    looked: list[CommitId] = []

    def lookup(one: CommitId) -> Commit | None:
        looked.append(one)
        return commits.get(one)

    assert [one for one, _ in fresh([IDS[11]], [IDS[10]], lookup)] == [IDS[11]]
    assert len(looked) <= 3


def test_records_of_what_was_sent_take_the_place_of_those_that_were_there() -> None:
    there = [Drop(IDS[0], None, "not here", 1), Drop(IDS[1], ("opt",), "thin", 2)]
    sent = {IDS[0]: None, IDS[2]: Drop(IDS[2], None, "keep_last", 3)}
    merged = merged_drops(there, sent)
    assert set(merged) == {there[1], sent[IDS[2]]}
    assert [encode(drop[:4]) for drop in merged] == sorted(encode(drop[:4]) for drop in merged)


def test_how_many_packs_bytes_make() -> None:
    assert [packs_for(count, 10) for count in (0, 1, 10, 11)] == [0, 1, 1, 2]
