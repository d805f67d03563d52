"""casckpt cat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command
from casckpt.errors import UsageError

if TYPE_CHECKING:
    from casckpt.ops.reports import PathInfo
    from casckpt.store import Store

JSON_BYTES_MAX = 1 << 20
"""Most bytes of a file or value that are put into the answer of --json."""

_BYTES = ("file", "bytes", "bytearray")


@command("casckpt cat gpt/best:out/config.json", "casckpt cat v1:out/log.txt --raw", "casckpt cat gpt:step --json")
@click.argument("rev", metavar="REV[:PATH]")
@click.option("--raw", is_flag=True, help="Print a text as it is stored, also what commands a terminal.")
def cat_command(call: Call, rev: str, raw: bool) -> Answer | None:
    """Print a file or a value of a commit.

    Files and bytes are printed as they are, each piece after it was verified; texts with control characters escaped.
    Of tensors and other large values a line says what they are. A commit of a single file needs no PATH.
    """
    from casckpt.plan.revision import split_path
    from casckpt.view.listing import ls_lines, text_pieces, value_text

    name, path = split_path(rev)
    store = call.open()
    target = f"id:{store.show(name).id}:{path or ''}"
    found = store.entry(target)
    if found.leaves is not None:
        raise UsageError(problem=f"{rev} is a container: casckpt ls {rev} lists what is in it")
    if call.json:
        data = _data(call, store, target, found)
        return Answer(lambda: data, lambda _: ())
    if found.kind in _BYTES or (raw and found.kind == "str"):
        call.output.raw(store.pieces(target))
        return None
    if found.kind == "str":
        call.output.text(text_pieces(store.pieces(target)))
        return None
    shown = value_text(found)
    if shown is None:
        form = "npz" if found.kind in ("tensor", "array") else "json"
        call.note(f"casckpt export {rev} FILE.{form} writes all of it")
    return Answer(dict, lambda look: ls_lines([found], look) if shown is None else [shown])


def _data(call: Call, store: Store, target: str, found: PathInfo) -> dict[str, Any]:
    """What --json says: what lies there, and the bytes or the text of it if that is not too much."""
    from base64 import b64encode

    from casckpt.view.listing import value_text

    data: dict[str, Any] = {"entry": found.to_dict(), "text": value_text(found), "base64": None}
    if found.kind not in (*_BYTES, "str"):
        return data
    if (found.nbytes or 0) > JSON_BYTES_MAX:
        call.warn("cat.too-large", f"{found.path} is too large for --json; without it all of it is printed")
        return data
    content = b"".join(store.pieces(target))
    if found.kind == "str":
        return {**data, "text": content.decode("utf-8", "surrogatepass")}
    return {**data, "base64": b64encode(content).decode()}
