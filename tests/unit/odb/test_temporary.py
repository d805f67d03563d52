from __future__ import annotations

from typing import Any

import pytest

from casckpt.odb.temporary import create_temporary
from casckpt.storage.memory import MemoryStorage


class Cleaned(MemoryStorage):
    """A cleaner takes the first files for abandoned before they are locked, as `Storage.create` then says."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.asked: list[str] = []

    def create(self, name: str, *, direct: bool = False) -> Any:
        self.asked.append(name)
        if len(self.asked) <= self.times:
            raise FileExistsError(name)
        return super().create(name, direct=direct)


def cleaned(times: int) -> Cleaned:
    storage = Cleaned(times)
    storage.make_root()
    storage.make_dir("tmp")
    return storage


def test_names_are_fresh_and_lie_in_tmp() -> None:
    storage = cleaned(0)
    names = {create_temporary(storage, "pack")[0] for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("tmp/pack-") for name in names)


def test_a_file_that_a_cleaner_took_is_made_again_under_another_name() -> None:
    storage = cleaned(3)
    name, file = create_temporary(storage, "pack")
    file.close()
    assert storage.list("tmp") == [name.removeprefix("tmp/")]
    assert len(set(storage.asked)) == 4


def test_a_name_that_is_always_taken_is_an_error_in_the_end() -> None:
    storage = cleaned(1000)
    with pytest.raises(FileExistsError):
        create_temporary(storage, "pack")
