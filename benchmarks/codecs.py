"""How small and how fast is the codec of chunks, on one core?

    python -m benchmarks.codecs [--mb 64] [--repeats 3] [--json FILE]

Peers: ZipNN with the element type named, in pieces and on the whole buffer at once; zstd levels 1 and 3.

Method: one thread; all but the row named "whole" get pieces of 1 MiB, our size of a chunk. The cases take turns, one
round warms up, and what was decoded must equal what was encoded. ZipNN may write into what it is given, so it gets a
copy, made outside the timing. Data are synthetic: normal values with a scale of their own per 256 KiB, like trained
weights, in fp32 and bf16; squares of such values over many orders of magnitude, like the second moment of Adam; token
ids of a skewed vocabulary as int64.

Unit: ratio is plain bytes / stored bytes (higher is smaller); encode and decode are MB of plain bytes per CPU second.
Since higher is better here, x below 1 says that casckpt is smaller or faster.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import zstandard

from benchmarks.workbench import files
from benchmarks.workbench.clock import rotated, timed
from benchmarks.workbench.peers import NOT_INSTALLED
from benchmarks.workbench.results import Results, begin, parser
from casckpt.format.elements import element_code

PIECE = 1 << 20
OURS = "casckpt"
COMPARED = ("ratio", "encode_mb_s", "decode_mb_s")


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of one element type."""

    question: str
    element: str
    plain: bytes

    def pieces(self) -> list[bytes]:
        """Cut at 1 MiB."""
        return [self.plain[start : start + PIECE] for start in range(0, len(self.plain), PIECE)]


@dataclass(frozen=True, slots=True)
class Coder:
    """A pair of functions on one piece; `size` says how many bytes an encoded piece takes."""

    encode: Callable[[bytes], Any]
    decode: Callable[[Any, int], Any]
    size: Callable[[Any], int] = len


def samples(mb: int) -> Iterator[Data]:
    """The four kinds of data, about so many MB each, in whole pieces."""
    count = max(1, mb * 1_000_000 // PIECE) * PIECE
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(count // 4 >> 16, 1 << 16, generator=generator)
    scales = torch.rand(len(values), 1, generator=generator).mul(3).sub(5).exp()
    weights = (values * scales).view(-1)
    yield Data("fp32 weights", "float32", weights.numpy().tobytes())
    halves = torch.randn(count // 2 >> 17, 1 << 17, generator=generator)
    scaled = (halves * torch.rand(len(halves), 1, generator=generator).mul(3).sub(5).exp()).view(-1)
    yield Data("bf16 weights", "bfloat16", scaled.to(torch.bfloat16).view(torch.uint8).numpy().tobytes())
    rows = torch.randn(len(weights) >> 10, 1, generator=generator).mul(2).exp()
    moment = (torch.randn(len(rows), 1 << 10, generator=generator) * rows * 1e-4).square().view(-1)
    yield Data("fp32 Adam v", "float32", moment.numpy().tobytes())
    tokens = np.random.default_rng(0).zipf(1.3, count // 8).clip(max=50_000).astype("<i8")
    yield Data("int64 token ids", "int64", tokens.tobytes())


def zstd(level: int) -> Coder:
    """zstd on its own."""
    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
    return Coder(compressor.compress, lambda stored, _: decompressor.decompress(stored))


def zipnn(element: str) -> Coder:
    """ZipNN; of bytes it knows floats only, so integers are shown to it as fp32."""
    from zipnn import ZipNN

    coder = ZipNN(bytearray_dtype="bfloat16" if element == "bfloat16" else "float32", threads=1)
    return Coder(lambda plain: bytes(coder.compress(plain)), lambda stored, _: coder.decompress(bytearray(stored)))


def ours(element: str) -> Coder:
    """The codec of chunks."""
    from casckpt.format import decode, encode
    from casckpt.format.ids import Kind, ObjectId
    from casckpt.format.pack import Record

    encoder, code = encode.Encoder(), element_code(element)

    def decoded(coded: tuple[int, bytes], length: int) -> bytearray:
        codec, stored = coded
        target = bytearray(length)
        record = Record(ObjectId(bytes(32)), 0, length, len(stored), Kind.CHUNK, int(codec), code)
        decode.decode_into(record, stored, memoryview(target))
        return target

    return Coder(lambda plain: encoder.encode(plain, code), decoded, lambda coded: len(coded[1]))


def coders(data: Data) -> dict[str, tuple[Coder | None, str]]:
    """Every case for this data: its coder, or why there is none."""
    installed = importlib.util.find_spec("zipnn") is not None
    peer = (zipnn(data.element), "") if installed else (None, NOT_INSTALLED)
    return {
        OURS: (ours(data.element), ""),
        "ZipNN": peer,
        "ZipNN, whole": peer,
        "zstd 1": (zstd(1), ""),
        "zstd 3": (zstd(3), ""),
    }


def play(name: str, coder: Coder, data: Data, results: Results) -> None:
    """Encode and decode all pieces once."""
    pieces: list[Any] = [data.plain] if name.endswith("whole") else data.pieces()
    given = [bytearray(piece) for piece in pieces] if name.startswith("ZipNN") else pieces
    stored: list[Any] = []
    encoded = timed(lambda: stored.extend(coder.encode(piece) for piece in given))
    plain: list[Any] = []
    decoded = timed(
        lambda: plain.extend(coder.decode(one, len(piece)) for one, piece in zip(stored, pieces, strict=True))
    )
    if any(bytes(one) != piece for one, piece in zip(plain, pieces, strict=True)):
        raise SystemExit(f"{name} gave other {data.question} back")
    megabytes = len(data.plain) / 1e6
    results.add(
        data.question,
        name,
        ratio=len(data.plain) / sum(map(coder.size, stored)),
        encode_mb_s=megabytes / encoded.cpu,
        decode_mb_s=megabytes / decoded.cpu,
    )


def main() -> None:
    """Read the command line, measure, print."""
    arguments = parser(__doc__, mb=64, repeats=3).parse_args()
    torch.set_num_threads(1)
    with files.scratch(arguments.folder) as folder:
        reading = "Medians; x = this case / casckpt: below 1 casckpt is smaller or faster."
        results = begin("codecs", folder, reading=reading, mb=arguments.mb, threads=1)
    for data in samples(arguments.mb):
        found = coders(data)
        results.order = list(found)
        for name, (_, why) in found.items():
            if why:
                results.absent(data.question, name, why)
        present = [(name, coder) for name, (coder, _) in found.items() if coder]
        for number in results.rounds(arguments.repeats):
            for name, coder in rotated(present, number):
                play(name, coder, data, results)
        results.print(data.question, base=OURS, compared=COMPARED)
    results.write(arguments.json)


if __name__ == "__main__":
    main()
