"""Vectors of objects: values, ids, groups, structures, components, pages, trees, commits."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from casckpt.format.canonical import decode, encode
from casckpt.format.chunking import CHUNK, group_blobs
from casckpt.format.commit import Commit
from casckpt.format.elements import element_code
from casckpt.format.ids import Kind, object_id, pack_id
from casckpt.format.layout import Grouped, Large, Place, Tiny
from casckpt.format.objects import Component, Structure, Tree
from tests.support.build import identity, noise
from tests.support.vectors import as_json

TIME = 1_700_000_000_000_000_000
FLOAT, BYTES = element_code("float32"), element_code("bytes")

GOOD = [
    *(("nil", None), ("booleans", [False, True]), ("text", "épée"), ("no text", ""), ("bytes", b"\0\xff")),
    ("every length of an integer", [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1]),
    (
        "every length of a negative integer",
        [-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)],
    ),
    ("floats are of eight bytes", [0.0, -0.0, 1.0, 1e300, 5e-324, float("inf"), float("-inf")]),
    ("the bits of a NaN are kept", struct.unpack("<d", bytes.fromhex("01000000deadf47f"))[0]),
    ("text of 31 and of 32 bytes", ["a" * 31, "a" * 32]),
    ("bytes of 255 and of 256", [bytes(255), bytes(256)]),
    ("lists of 15 and of 16", [[None] * 15, [None] * 16]),
    ("keys sort by their encoded bytes", {"b": 1, "aa": 2, "a": 3, "": 4}),
    ("keys of several types", {0: "int", -1: "negative", "0": "text", b"0": "bytes", None: "nil", 0.5: "float"}),
    ("nested maps", {"outer": {"z": [], "y": {}}, "a": [{"c": 1, "b": 2}]}),
]
BAD: dict[str, str] = {
    "1 in two bytes": "cc01",
    "1 in nine bytes": "cf0000000000000001",
    "-1 in two bytes": "d0ff",
    "1 as a signed byte": "d001",
    "text with a longer length than needed": "d90161",
    "bytes with a longer length than needed": "c500016f",
    "a list with a longer length than needed": "dc000101",
    "a map with a longer length than needed": "de0001a16101",
    "keys in another order": "82a16201a16101",
    "keys in the order of their text": "82a2616101a16201",
    "a key twice": "82a16101a16102",
    "1 and true and 1.0 as keys": "8201a178c3a179",
    "a float of four bytes": "ca3f800000",
    "an extension": "d40100",
    "a timestamp": "d6ff00000000",
    "text that is not UTF-8": "a1ff",
    "text with a surrogate": "a3eda080",
    "nothing": "",
    "a value and more": "0101",
    "a list that is cut short": "9201",
    "text that is cut short": "a361",
    "a list of 4 294 967 295 that are not there": "ddffffffff",
    "a map of 4 294 967 295 that are not there": "dfffffffff",
    "bytes of 4 GiB that are not there": "c6ffffffff",
    "the byte that is never used": "c1",
    "a list as a key": "819001",
}


def canonical() -> dict[str, Any]:
    """Values with their bytes, and bytes that are nobody's."""
    good = [{"what": what, "value": as_json(value), "hex": encode(value).hex()} for what, value in GOOD]
    bad = [{"what": what, "hex": text} for what, text in BAD.items()]
    return {"good": good, "bad": bad}


def ids() -> list[dict[str, Any]]:
    """The same bytes under every kind."""
    rows = []
    for plain in (b"", b"casckpt", bytes(range(256))):
        rows += [{"kind": kind.name, "plain": plain.hex(), "id": object_id(kind, plain).hex()} for kind in Kind]
        rows.append({"kind": "pack", "plain": (plain * 2).hex(), "id": pack_id(plain, plain).hex()})
    return rows


def groups() -> list[dict[str, Any]]:
    """Sizes, elements and paths of blobs, and how they are grouped; written by hand once, then held."""
    names = [f"model/layer{number:02}/weight" for number in range(24)]
    small, other = element_code("float32"), element_code("int64")
    cases: list[tuple[str, list[int], list[int], list[str]]] = [
        ("no blobs", [], [], []),
        ("tiny and large blobs are in no group", [64, 65, 262143, 262144], [small] * 4, names[:4]),
        ("a group never holds two element types", [100, 200, 300, 400], [small, other] * 2, names[:4]),
        ("a group ends before it would pass 1 MiB", [250_000] * 6, [small] * 6, ["a", "b", "c", "d", "e", "f"]),
        ("a group may be exactly 1 MiB", [1 << 17] * 9, [small] * 9, [f"p/{number}" for number in range(9)]),
        ("the path at its end decides where a group ends", [60_000 + 700 * n for n in range(24)], [small] * 24, names),
        (
            "a blob more moves few groups",
            [60_000 + 700 * n for n in range(3)] + [5000] + [60_000 + 700 * n for n in range(3, 24)],
            [small] * 25,
            [*names[:3], "model/layer02/zzz", *names[3:]],
        ),
    ]
    return [
        {"what": what, "sizes": sizes, "elements": kinds, "paths": paths, "groups": group_blobs(sizes, kinds, paths)}
        for what, sizes, kinds, paths in cases
    ]


# ---- a small state: {"model": {"weight": [300, 300], "bias": [100], "scale": [], "name": "mlp"}, "step": 7}, float32

WEIGHT = b"".join(struct.pack("<f", number % 97 / 2) for number in range(90_000))
BIAS = noise("bias", 400)
ROOT_STRUCTURE = Structure(["dict", ["model", "step"], [["part", 0], None]], (), b"", ())
MODEL_STRUCTURE = Structure(
    [
        "dict",
        ["weight", "bias", "scale", "name"],
        [
            ["tensor", "float32", [300, 300], None, 2, 0, 3],
            ["tensor", "float32", [100], None, 0, 0, 0],
            ["tensor", "float32", [], None, 1, 0, 0],
            None,
        ],
    ],
    (400, 4, 360_000),
    bytes([FLOAT] * 3),
    ((0,),),
)
ROOT = Component(object_id(Kind.STRUCTURE, ROOT_STRUCTURE.encode()), [7], b"", b"")
MODEL = Component(
    object_id(Kind.STRUCTURE, MODEL_STRUCTURE.encode()),
    ["mlp"],
    struct.pack("<f", 0.5),
    object_id(Kind.CHUNK, BIAS) + object_id(Kind.CHUNK, WEIGHT),
)
TREE = Tree(object_id(Kind.COMPONENT, ROOT.encode()), (("model", object_id(Kind.COMPONENT, MODEL.encode())),))
LINKED = Tree(identity("root"), (("a", identity("a")), ("b", identity("b"))), (((0, 3), (1, 0)), ((1, 2), (2, 5))))
CONFIG = encode({"lr": 0.001, "layers": 2})
FIRST = Commit(object_id(Kind.TREE, TREE.encode()), (), "mlp", TIME, nbytes=360_404)
FULL = Commit(
    tree=object_id(Kind.TREE, TREE.encode()),
    parents=(object_id(Kind.COMMIT, FIRST.encode()), identity("parent")),
    run="mlp",
    time_ns=TIME + 1_000_000_000,
    step=7,
    epoch=0.25,
    kind="recovery",
    status="completed",
    metrics={"val/loss": 0.231, "nan": float("nan"), "tokens": 10**12},
    message="warm restart",
    author="ada",
    schema=("gpt", 2),
    config=object_id(Kind.META, CONFIG),
    environment=identity("environment"),
    code=identity("code"),
    data=identity("data"),
    nbytes=360_404,
)


def objects(vectors: Any) -> None:
    """Files of single objects."""
    for name, structure in (("root", ROOT_STRUCTURE), ("model", MODEL_STRUCTURE)):
        what = f"structure of the component {name} of a small state"
        _object(vectors, f"structure-{name}.bin", "structure", what, structure)
    _component(vectors, "root", "the root component of a small state", ROOT, [])
    where = [Grouped(0, 0, 400), Tiny(0), Large(1, 1, 1, False, None)]
    _component(vectors, "model", "a group, a tiny and a large blob", MODEL, where)
    _object(vectors, "tree.bin", "tree", "the tree of the small state", TREE)
    _object(vectors, "tree-links.bin", "tree", "a tree of two parts with shared memory", LINKED)
    _object(vectors, "commit-first.bin", "commit", "a commit with the least fields", FIRST)
    _object(vectors, "commit-full.bin", "commit", "a commit with every field but required, two parents", FULL)
    future = {"future": {"a": [1, b"\0"]}, "zero": 0}
    newer = Commit(**{name: getattr(FULL, name) for name in Commit.__slots__ if name != "extra"}, extra=future)
    _object(vectors, "commit-unknown.bin", "commit", "fields of a newer release are kept", newer)
    required = replace(FULL, required=("model/**", "optimizer/state/*/exp_avg", "step"))
    _object(vectors, "commit-required.bin", "commit", "a commit whose schema requires three paths", required)
    for name, what, fields in (
        ("orphan", "required paths without a schema", {**_map(FIRST), "required": ["step"]}),
        ("order", "required paths that do not ascend", {**_map(FULL), "required": ["step", "model"]}),
        ("empty", "a required path that is empty", {**_map(FULL), "required": [""]}),
        ("many", "65 required paths", {**_map(FULL), "required": [f"{number:02}" for number in range(65)]}),
        ("long", "a required path of 1 025 bytes", {**_map(FULL), "required": ["p" * 1025]}),
    ):
        vectors.refuse(f"commit-required-{name}.bin", "commit", "IntegrityError", what, encode(fields))
    critical = encode({**_map(FIRST), "!future": 1})
    vectors.refuse("commit-critical.bin", "commit", "IntegrityError", "an unknown field that must be known", critical)
    typed = encode({**_map(FIRST), "step": True})
    vectors.refuse("commit-type.bin", "commit", "IntegrityError", "a step that is a boolean", typed)
    many = encode({**_map(FIRST), "parents": [identity(f"parent {number}") for number in range(65)]})
    vectors.refuse("commit-parents.bin", "commit", "IntegrityError", "65 parents", many)
    layout = encode({"node": None, "sizes": [1], "types": b"\0", "groups": [], "layouts": {1: {}}})
    vectors.refuse("structure-layout.bin", "structure", "IntegrityError", "a layout of no blob", layout)
    _layouts(vectors)


def _layouts(vectors: Any) -> None:
    sharded = Structure(
        ["dict", ["w"], [["tensor", "float32", [6, 4], None, 0, 0, 0]]],
        (96,),
        bytes([FLOAT]),
        (),
        {0: {"shape": [6, 4], "boxes": [[[0, 0], [3, 4]], [[3, 0], [3, 4]]]}},
    )
    _object(vectors, "structure-sharded.bin", "structure", "a tensor saved as two boxes of [3, 4]", sharded)
    chunks = [object_id(Kind.CHUNK, noise(f"box {number}", 48)) for number in range(2)]
    _spanned(vectors, "sharded", "two boxes of one chunk each", sharded, chunks, 2, [48, 48])

    short = Structure(["dict", ["log"], [["bytes", 0]]], (5000,), bytes([BYTES]), (), {0: {"cut": "content"}})
    _object(vectors, "structure-file.bin", "structure", "a file cut by its content", short)
    lengths = [2100, 1500, 1400]
    chunks = [object_id(Kind.CHUNK, noise(f"piece {number}", length)) for number, length in enumerate(lengths)]
    _spanned(vectors, "file", "three chunks of unequal length", short, chunks, 3, lengths)

    size = 300_000
    folder = Structure(
        ["dict", ["latest", "w.safetensors"], [["link", b"./w.safetensors"], ["file", 0, False]]],
        (size,),
        bytes([BYTES]),
        (),
        {0: {"cut": "content"}},
    )
    _object(vectors, "structure-folder.bin", "structure", "a folder with a file and a symbolic link", folder)
    lengths = [200, 280_000, size - 280_200]
    chunks = [object_id(Kind.CHUNK, noise(f"part {number}", length)) for number, length in enumerate(lengths)]
    _spanned(vectors, "folder", "a header, a tensor, and the rest of a file", folder, chunks, 3, lengths)

    count = 2100
    names = [identity(f"chunk {number}") for number in range(count)]
    lengths = [900 + number % 211 for number in range(count)]
    spans = [sum(lengths[:2048]), sum(lengths[2048:])]
    pages = [
        b"".join(names[at:end]) + struct.pack(f"<{end - at}I", *lengths[at:end])
        for at, end in ((0, 2048), (2048, count))
    ]
    paged = Structure(["dict", ["log"], [["bytes", 0]]], (sum(spans),), bytes([BYTES]), (), {0: {"cut": "content"}})
    _object(vectors, "structure-file-paged.bin", "structure", "a file of 2 100 chunks", paged)
    _pages(vectors, "page-content", "ids, then lengths", pages, names, spans)
    ids_of_pages = [object_id(Kind.PAGE, page) for page in pages]
    _spanned(vectors, "file-paged", "2 100 chunks in two pages", paged, ids_of_pages, count, spans)

    large = Structure(
        ["dict", ["w"], [["array", "|u1", [count * CHUNK - 5], "C", 0, 0]]],
        (count * CHUNK - 5,),
        bytes([element_code("uint8")]),
        (),
    )
    pages = [b"".join(names[:2048]), b"".join(names[2048:])]
    _object(
        vectors, "structure-paged.bin", "structure", "a tensor of 2 100 chunks of 1 MiB, the last 5 bytes short", large
    )
    _pages(vectors, "page-fixed", "ids alone", pages, names, None)
    digests = b"".join(object_id(Kind.PAGE, page) for page in pages)
    component = Component(object_id(Kind.STRUCTURE, large.encode()), [], b"", digests)
    _component(vectors, "paged", "2 100 chunks of 1 MiB in two pages", component, [Large(0, 2, 2100, True, None)])
    data = Component(component.structure, [], b"", digests[:32]).encode()
    what = "a page is missing in the id column"
    vectors.refuse("component-short.bin", "component", "IntegrityError", what, data, structure="structure-paged.bin")


def _object(vectors: Any, name: str, kind: str, what: str, value: Any) -> None:
    data = value.encode()
    vectors.file(name, kind, what, data, {"id": as_json(object_id(Kind[kind.upper()], data)), **as_json(value)})


def _component(vectors: Any, name: str, what: str, component: Component, where: list[Place]) -> None:
    data = component.encode()
    expect = {"id": as_json(object_id(Kind.COMPONENT, data)), **as_json(component)}
    expect["places"] = [{type(place).__name__.lower(): as_json(place)} for place in where]
    vectors.file(f"component-{name}.bin", "component", what, data, expect, structure=f"structure-{name}.bin")


def _spanned(
    vectors: Any, name: str, what: str, structure: Structure, entries: list[Any], chunks: int, spans: list[int]
) -> None:
    component = Component(
        object_id(Kind.STRUCTURE, structure.encode()),
        [],
        b"",
        b"".join(entries),
        ((chunks, len(entries)),),
        struct.pack(f"<{len(spans)}Q", *spans),
    )
    _component(vectors, name, what, component, [Large(0, len(entries), chunks, chunks > 64, 0)])


def _pages(vectors: Any, name: str, what: str, pages: list[bytes], names: list[Any], spans: list[int] | None) -> None:
    for number, page in enumerate(pages):
        held = names[2048 * number : 2048 * (number + 1)]
        expect = {"id": as_json(object_id(Kind.PAGE, page)), "ids": len(held)}
        expect |= {"first": as_json(held[0]), "last": as_json(held[-1])}
        if spans is not None:
            expect["plain"] = spans[number]
        vectors.file(f"{name}-{number}.bin", "page", f"a page: {what}", page, expect, explicit=spans is not None)


def _map(commit: Commit) -> dict[str, Any]:
    found: dict[str, Any] = decode(commit.encode(), "a commit")
    return found
