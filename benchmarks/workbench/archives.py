"""Ways to keep all checkpoints of a training, given one after the other, and to get any of them back.

Some keep tensors, some files that torch.save has written. What belongs to neither flatters them: the file is written
before the clock starts, and what was restored as a file is not loaded. Chains and ZipNN are given pieces of tensors,
know without stored bytes where each lies, and check nothing of what they read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import zstandard

import casckpt
from benchmarks.workbench import files
from benchmarks.workbench.pieces import Piece, digest, pieces_of
from benchmarks.workbench.programs import borg_environment, restic_environment, run
from benchmarks.workbench.trainings import State
from casckpt.format import planes
from casckpt.format.codec import Codec, compressor
from casckpt.format.elements import element_name, word_bytes
from casckpt.format.plane_encode import PlaneEncoder

FILE = "checkpoint.pt"


class Archive:
    """One way, with all that it keeps in `place`; checkpoints are numbered from 0."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / "store"

    def prepare(self, state: State) -> None:
        """What must be there before a checkpoint can be saved, and is not counted."""

    def save(self, number: int, state: State) -> None:
        """Keep the next checkpoint."""
        raise NotImplementedError

    def restore(self, number: int) -> Any:
        """Any of them, as the way gives it back."""
        raise NotImplementedError

    def digest(self, restored: Any) -> bytes:
        """The digest of what was restored, which is let go of."""
        return digest([piece.plain for piece in pieces_of(restored)])

    def start(self) -> None:
        """What any call takes, however little it has to do."""

    def slow(self) -> list[int]:
        """Numbers of checkpoints that are known to take longest."""
        return []

    def stored_bytes(self) -> int:
        """Bytes that all of it takes on the disk."""
        return files.allocated(self.place)

    def close(self) -> None:
        """Let go of its files."""


# ---- tensors as they are


class Casckpt(Archive):
    """Our store with one thread, which repacks only when it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        casckpt.init(self.place).close()
        self.store = casckpt.open(self.place, settings=casckpt.StoreSettings(threads=1, upkeep=False))
        self._commits: list[str] = []

    def save(self, number: int, state: State) -> None:
        self._commits.append(self.store.commit(state, step=number).id)

    def restore(self, number: int) -> State:
        return self.store.checkout(self._commits[number])

    def repack(self, *, thorough: bool) -> None:
        """Make it smaller, by the default or for archives."""
        self.store.repack(max=thorough)

    def index_bytes(self) -> int:
        """Bytes of the index, which is a cache."""
        return files.allocated(self.place / "index")

    def close(self) -> None:
        self.store.close()


class TorchFiles(Archive):
    """A folder of files, of which only those that will be restored stay there: others are measured and removed."""

    def __init__(self, folder: Path, wanted: Sequence[int]) -> None:
        super().__init__(folder)
        self.place.mkdir()
        self._wanted, self._removed = wanted, 0

    def save(self, number: int, state: State) -> None:
        torch.save(state, self.place / str(number))
        if number not in self._wanted:
            self._removed += files.allocated(self.place / str(number))
            (self.place / str(number)).unlink()

    def restore(self, number: int) -> State:
        return torch.load(self.place / str(number), weights_only=True)

    def stored_bytes(self) -> int:
        return super().stored_bytes() + self._removed


# ---- programs that are given a file


class Program(Archive):
    """One that saves FILE, and restores it below `out`."""

    name: str

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environment: dict[str, str] = {}

    def prepare(self, state: State) -> None:
        torch.save(state, self.folder / FILE)

    def run(self, *command: str, folder: str = ".") -> None:
        """Call the program."""
        run(self.folder / folder, self.environment, self.name, *command)

    def digest(self, restored: Path) -> bytes:
        (path,) = [path for path in files.files(restored) if path.name == FILE]
        found = super().digest(torch.load(path, weights_only=True))
        files.remove(restored)
        return found


class Restic(Program):
    """It encrypts, and cannot do without; --force reads the file anew, as a new file would be."""

    name = "restic"

    def __init__(self, folder: Path, compression: str) -> None:
        super().__init__(folder)
        self.environment, self._compression = restic_environment(folder, 1), compression
        self.run("init")

    def save(self, number: int, state: State) -> None:
        self.run("backup", "--force", "--compression", self._compression, "--tag", f"number{number}", FILE)

    def restore(self, number: int) -> Path:
        self.run("restore", "latest", "--tag", f"number{number}", "--target", "out")
        return self.folder / "out"

    def start(self) -> None:
        self.run("snapshots", "latest")


class Borg(Program):
    """Without encryption; the files cache is off for the same reason as restic's."""

    name = "borg"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environment = borg_environment(folder)
        self.run("init", "--encryption", "none", "store")

    def save(self, number: int, state: State) -> None:
        self.run("create", "--files-cache", "disabled", "--compression", "zstd", f"store::{number}", FILE)

    def restore(self, number: int) -> Path:
        (self.folder / "out").mkdir()
        self.run("extract", f"{self.place}::{number}", folder="out")
        return self.folder / "out"

    def start(self) -> None:
        self.run("list", "store")


# ---- pieces of tensors, in files


class Row(NamedTuple):
    """Where a piece of a checkpoint lies in its file, and how it is encoded."""

    form: int
    offset: int
    stored: int
    length: int
    element: int


RAW, CODED, SAME, DIFFERENT = range(4)
"""Forms: as it is, encoded, equal to that of the checkpoint before, encoded as the difference from it."""


class PieceFiles(Archive):
    """A file for each checkpoint, with its pieces one after the other."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.place.mkdir()
        self.rows: list[list[Row]] = []
        self.before: list[Piece] = []
        self._files: list[int] = []

    def encode(self, number: int, at: int, element: int, plain: bytes) -> tuple[int, Any]:
        """Form and stored bytes of a piece."""
        raise NotImplementedError

    def decode(self, number: int, at: int) -> Any:
        """The plain bytes of a piece."""
        raise NotImplementedError

    def save(self, number: int, state: State) -> None:
        rows, given = [], pieces_of(state)
        with (self.place / str(number)).open("wb") as file:
            for at, (element, plain) in enumerate(given):
                form, stored = self.encode(number, at, element, plain)
                rows.append(Row(form, file.tell(), len(stored), len(plain), element))
                file.write(stored)
        self.rows.append(rows)
        self.before = given
        self._files.append(os.open(self.place / str(number), os.O_RDONLY))

    def read(self, number: int, at: int) -> bytes:
        """The stored bytes of a piece."""
        row = self.rows[number][at]
        return os.pread(self._files[number], row.stored, row.offset)

    def restore(self, number: int) -> list[Any]:
        return [self.decode(number, at) for at in range(len(self.rows[number]))]

    def digest(self, restored: list[Any]) -> bytes:
        return digest(restored)

    def close(self) -> None:
        for descriptor in self._files:
            os.close(descriptor)


class ZippedFiles(PieceFiles):
    """ZipNN, piece by piece; of bytes it knows floats only, so counters are shown to it as fp32."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from zipnn import ZipNN

        self._coders = {name: ZipNN(bytearray_dtype=name, threads=1) for name in ("float32", "bfloat16")}

    def encode(self, number: int, at: int, element: int, plain: bytes) -> tuple[int, Any]:
        coded = self._coder(element).compress(bytearray(plain))  # which may write into what it is given
        return (CODED, coded) if len(coded) < len(plain) else (RAW, plain)

    def decode(self, number: int, at: int) -> Any:
        row, stored = self.rows[number][at], self.read(number, at)
        return stored if row.form == RAW else self._coder(row.element).decompress(bytearray(stored))

    def _coder(self, element: int) -> Any:
        return self._coders.get(element_name(element), self._coders["float32"])


class Chain(PieceFiles):
    """Each piece as its difference from that of the checkpoint before, as byte planes, or whole where that is shorter.

    Args:
        bits: differences are XORs, and compressed by zstd 1, as others do; else they are those of numbers, and zstd is
            tuned for planes, as ours is.
        keys: numbers of the checkpoints that are stored without others; the first always is.
    """

    def __init__(self, folder: Path, *, bits: bool, keys: Sequence[int] = ()) -> None:
        super().__init__(folder)
        self._bits, self._keys = bits, keys
        self._encoder = PlaneEncoder(zstandard.ZstdCompressor(level=1).compress if bits else compressor(tuned=True))

    def encode(self, number: int, at: int, element: int, plain: bytes) -> tuple[int, Any]:
        width = word_bytes(element)
        coded = self._encoder.encode(plain, width, aligned=False)
        found = (RAW, plain) if coded is None else (CODED, coded)
        if number == 0 or number in self._keys:
            return found
        if plain == self.before[at].plain:
            return SAME, b""
        words, before = (np.frombuffer(one, f"<u{width}") for one in (plain, self.before[at].plain))
        difference = words ^ before if self._bits else words - before + _middle(width)
        coded = self._encoder.encode(difference.view(np.uint8).data, width, aligned=False)
        return found if coded is None or len(coded) >= len(found[1]) else (DIFFERENT, coded)

    def slow(self) -> list[int]:
        return [min((key for key in self._keys if key), default=len(self.rows)) - 1]

    def decode(self, number: int, at: int) -> Any:
        first = number
        while self.rows[first][at].form in (SAME, DIFFERENT):
            first -= 1
        row = self.rows[first][at]
        stored, width = self.read(first, at), word_bytes(row.element)
        plain = planes.decode(Codec.PLANES, stored, row.length, row.element) if row.form == CODED else bytearray(stored)
        words = np.frombuffer(plain, f"<u{width}")
        summed = 0
        for later in range(first + 1, number + 1):
            if self.rows[later][at].form == SAME:
                continue
            coded = planes.decode(Codec.PLANES, self.read(later, at), row.length, row.element)
            (np.bitwise_xor if self._bits else np.add)(words, np.frombuffer(coded, words.dtype), out=words)
            summed += 1
        if not self._bits:
            np.subtract(words, _middle(width, summed), out=words)
        return words.view(np.uint8).data


def _middle(width: int, times: int = 1) -> Any:
    """A word of bytes 0x80, so many times: added to a small difference of either sign, its high bytes stay alike."""
    return np.dtype(f"<u{width}").type(times * int.from_bytes(b"\x80" * width, "little") % (1 << 8 * width))
