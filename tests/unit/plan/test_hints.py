from __future__ import annotations

from typing import Any

from casckpt.format.canonical import encode
from casckpt.plan.hints import COMMITS_BYTES, commits_of, merged


def of(step: int, **more: Any) -> dict[str, Any]:
    tree = bytes([step % 256]) * 32
    return {"run": "gpt", "step": step, "metrics": {"loss": 1.5}, "time": step, "tree": tree, **more}


def test_several_commits_stand_in_a_list_and_one_alone_as_a_commit_writes_it() -> None:
    assert merged([of(1)]) == of(1)
    both = merged([of(1), of(2)])
    assert commits_of(both) == [of(1), of(2)]
    assert commits_of(merged([both, of(3)])) == [of(1), of(2), of(3)]


def test_packs_of_one_commit_name_it_once() -> None:
    assert merged([of(1), of(1)]) == of(1)


def test_what_is_not_wanted_is_left_out() -> None:
    assert merged([of(1), of(2)], lambda one: one["step"] == 2) == of(2)
    assert merged([of(1)], lambda _: False) == {}


def test_what_commits_added_is_kept_whole_from_sealed_packs() -> None:
    sealed = [{"sealed": number, "added": [[bytes([number]) * 32, number]]} for number in range(2)]
    assert merged(sealed) == {"added": [[bytes(32), 0], [b"\1" * 32, 1]]}


def test_the_list_is_bounded() -> None:
    found = merged(of(step, schema="m" * 10_000) for step in range(200))
    assert 0 < len(encode(found["commits"])) <= COMMITS_BYTES < 200 * 10_000


def test_hints_of_others_mean_nothing() -> None:
    assert commits_of({"commits": 5, "step": 3}) == []
    assert commits_of({"commits": [5, {"run": "x"}]}) == [{"run": "x"}]
    assert merged([{"added": 5}, {"added": [5, [1, 2], [b"a", b"b"]]}]) == {}
