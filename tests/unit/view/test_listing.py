"""What lies at a path, as text."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casckpt.ops.reports import PathInfo
from casckpt.view.listing import ls_lines, text_pieces, value_text
from tests.unit.view.test_history import NOW


def leaf(kind: str, dtype: str | None = None, value: Any = None, path: str = "a") -> PathInfo:
    return PathInfo(path, kind, dtype, None, None, value)


def test_containers_end_with_a_slash_and_say_how_much_they_hold() -> None:
    found = [
        PathInfo("model\x1b", "dict", None, None, 3 << 20, leaves=1234),
        PathInfo("opt/state", "list", None, None, 0, leaves=1),
        PathInfo("w", "tensor", "float32", (3, 4), 48),
        leaf("int", value=7, path="step"),
    ]
    assert list(ls_lines(found, NOW)) == [
        "model\\x1b/  dict          3.0 MiB  1,234 leaves",
        "opt/state/  list              0 B  1 leaf",
        "w           float32[3,4]     48 B",
        "step        int                    7",
    ]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (leaf("int", value=7), "7"),
        (leaf("int", value=-(1 << 20_000)), f"-0x1{'0' * 5000}"),
        (leaf("none"), "None"),
        (leaf("bool", value=True), "True"),
        (leaf("float", value=float("nan")), "nan"),
        (leaf("complex", value=1 + 2j), "(1+2j)"),
        (leaf("link", value=b"../x\xff\x1b"), "../x\\xff\\x1b"),
        (leaf("scalar", "<f8", struct.pack("<d", 0.1)), "0.1"),
        (leaf("scalar", ">i2", b"\x01\x00"), "256"),
        (leaf("scalar", "|b1", b"\x01"), "True"),
        (leaf("scalar", "<f8", b"short"), None),
        (leaf("scalar", "<U2", b"\x41\0\0\0\x42\0\0\0"), None),
        (leaf("scalar", "", b""), None),
        (leaf("tensor", "float32"), None),
        (leaf("str", value="x"), None),
    ],
)
def test_small_values_have_a_text(found: PathInfo, text: str | None) -> None:
    assert value_text(found) == text


def test_a_text_is_made_harmless_but_for_its_line_breaks() -> None:
    assert "".join(text_pieces([b"one\ntw\xc3", b"\xa9\x1b[2J\n"])) == "one\ntw\u00e9\\x1b[2J\n"
    assert "".join(text_pieces([b"no end"])) == "no end\n"
    assert "".join(text_pieces([b""])) == "\n"


@given(st.text(), st.integers(1, 5))
def test_where_a_text_is_cut_into_pieces_does_not_matter(text: str, size: int) -> None:
    data = text.encode("utf-8", "surrogatepass")
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert "".join(text_pieces(pieces)) == "".join(text_pieces([data]))
