"""A process that exports and imports large states, and says how much memory that took.

    python -m tests.integration.exported FORMAT FOLDER

It asserts itself that what comes back is exact, and prints one JSON object a line, as `large` does.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import casckpt
from casckpt.ops.decode import decode
from tests.integration.large import assert_same_bytes, measured, raw, warm

MIB = 1 << 20


def state(form: str) -> dict[str, Any]:
    """400 MB: one tensor that lies in order, one that does not, and many small ones."""
    generator = torch.Generator().manual_seed(7)
    found: dict[str, Any] = {
        "large": torch.randint(-99, 99, (50 * MIB,), dtype=torch.int32, generator=generator),
        "turned": torch.randint(-99, 99, (5000, 8 * 1024), dtype=torch.int32, generator=generator).T,
    }
    found |= {f"small.{n}": torch.full((1000,), n, dtype=torch.float32) for n in range(2000)}
    return found if form != "npz" else {name: value.numpy() for name, value in found.items()}


def main(form: str, folder: Path) -> None:
    warm(str(folder / "store"))
    with casckpt.memory() as small:
        small.commit({"w": torch.ones(5), "t": torch.ones(2, 3).T})
        small.export("main", folder / f"warm.{form}")
        small.import_path(folder / f"warm.{form}", form="state", run="warm")
    with casckpt.init(folder / "store") as store:
        store.commit(state(form))
        ctypes.CDLL(None).malloc_trim(0)
        with measured("export"):
            store.export("main", folder / f"m.{form}")
        # h5py reads what it is asked for: an import of HDF5 takes memory for the state, once.
        room = {"state": sum(value.nbytes for value in state(form).values())} if form == "h5" else {}
        with measured("import", **room):
            store.import_path(folder / f"m.{form}", form="state", run="back")
    found = decode(folder / f"m.{form}", "m", None)
    for name, wanted in state(form).items():
        one, other = torch.as_tensor(found[name]), torch.as_tensor(wanted)
        assert one.dtype == other.dtype and one.shape == other.shape, name
        assert_same_bytes(raw(one.contiguous()), raw(other.contiguous()))
    assert np.array_equal(found["small.7"], np.full(1000, 7, np.float32))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
