"""Damage to encoded chunks is damage, wherever it hits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import casckpt
from casckpt.errors import DamagedLeaf


def test_no_flipped_byte_of_an_encoded_chunk_passes_for_another_format(tmp_path: Path) -> None:
    with casckpt.init(tmp_path / "store") as store:
        store.commit({"w": torch.randn(70_000)}, compress="always")
    (pack,) = (tmp_path / "store/packs").iterdir()
    whole = pack.read_bytes()
    # The first record begins behind the header, with the forms and lengths of its streams.
    for at in [*range(4096, 4096 + 24), *range(4096 + 100, 4096 + 200_000, 7919)]:
        pack.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with casckpt.open(tmp_path / "store", read_only=True) as store, pytest.raises(DamagedLeaf) as raised:
            store.checkout()
        assert raised.value.facts["path"] == "w"
