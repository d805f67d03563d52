from __future__ import annotations

import os
from pathlib import Path

import pytest

from casckpt.odb.index import Index
from casckpt.odb.index_files import LOCK_BYTES, allot_lock_file


def test_the_lock_file_of_an_index_has_no_holes(tmp_path: Path) -> None:
    """A page that LMDB touches must be there: without a free block on the disk the process would die."""
    folder = tmp_path / "index"
    (tmp_path / "tmp").mkdir()
    index = Index.build(str(folder), lambda tables: None)
    assert index is not None
    index.close()
    (folder / "lock.mdb").unlink()
    again = Index.open(str(folder))
    assert again is not None
    status = (folder / "lock.mdb").stat()
    assert status.st_size == LOCK_BYTES, "LMDB made it longer, with holes"
    again.close()


def test_a_lock_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "lock.mdb").write_bytes(b"in use")
    allot_lock_file(str(tmp_path))
    assert (tmp_path / "lock.mdb").read_bytes() == b"in use"


def test_no_part_of_a_lock_file_is_left_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda descriptor, data: 4096)
    with pytest.raises(OSError, match="No space left"):
        allot_lock_file(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
