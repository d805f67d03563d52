"""A rehearsal says of a commit what the commit will be, and leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from hashlib import shake_256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import casckpt
from casckpt.errors import ConflictError, TooLarge
from casckpt.ops.commit import CommitOptions, commit_state
from casckpt.state.flatten import flatten
from tests.strategies import states


@settings(max_examples=60, deadline=None)
@given(before=states(depth=2), state=states(depth=2), large=st.booleans(), run=st.sampled_from(["a", "b"]))
def test_it_says_what_the_commit_will_add_and_where_it_will_stand(
    before: object, state: object, large: bool, run: str
) -> None:
    if large:  # more than a frame holds, and half of it known
        before = {"bulk": shake_256(b"1").digest(70_000), "state": before}
        state = {"bulk": shake_256(b"1").digest(70_000) + shake_256(b"2").digest(70_000), "state": state}
    with casckpt.memory() as store:
        store.commit(before, run="a", metrics={"loss": 1.0}, best="loss:min")
        seq = store.status().journal_seq
        options = CommitOptions(run, 3, metrics={"loss": 0.5})
        said = commit_state(store._repository, flatten(state), options, dry_run=True)
        assert store.status().journal_seq == seq
        done = commit_state(store._repository, flatten(state), options)
        assert said.added is not None and done.added is not None
        assert replace(said, id="", time_ns=0) == replace(done, id="", time_ns=0)


def test_no_file_is_written_for_a_large_state(tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(shake_256(b"large").digest(20 << 20))
    with casckpt.init(tmp_path / "store") as store:
        said = store.commit_path(tmp_path / "large.bin", dry_run=True, compress="off")
        assert not list((tmp_path / "store" / "packs").iterdir())
        done = store.commit_path(tmp_path / "large.bin", compress="off")
        assert said.added is not None
        assert said.added == done.added
        again = store.commit_path(tmp_path / "large.bin", dry_run=True, compress="off")
        assert again.added is not None
        assert again.added < 1000
        assert again.parents == (done.id,)


def test_it_is_refused_where_the_commit_would_be() -> None:
    with casckpt.memory() as store:
        first = store.commit({"a": 1})
        store.commit({"a": 2})
        for options, error in (
            (CommitOptions(expect=first.id), ConflictError),
            (CommitOptions(config={"x": "y" * (20 << 20)}), TooLarge),
        ):
            for dry_run in (True, False):
                with pytest.raises(error):
                    commit_state(store._repository, flatten({"a": 3}), options, dry_run=dry_run)
