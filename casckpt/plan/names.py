"""Names of runs, tags and refs: what is allowed, and how refs are spelled.

runs/<run>/last  runs/<run>/best  runs/<run>/recovery  tags/<tag>  remotes/<remote>/<ref of it>
"""

from __future__ import annotations

import unicodedata

from casckpt.errors import InvalidName

REMOTES = "remotes/"
"""Where refs begin that say where a remote was when it was last looked at. They hold nothing."""
HEADS = ("last", "best", "recovery")
NUMBERS = ("step", "epoch")
TEXTS = ("run", "kind", "status", "message", "author")
"""What a commit says of itself that revisions and filters ask for; every other word is a metric."""
_FORBIDDEN = frozenset("~^:@{}/\\*?[]\"'")
_MAX_BYTES = 200


def check_name(kind: str, name: str) -> str:
    """The name itself, if a run or tag may be called so.

    Raises:
        InvalidName: empty, too long, with characters that revisions give a meaning to, with spaces or control
            characters, `..`, a leading `-` or `.`, or a word that names a head.
    """
    problem = ""
    if not is_text(name):
        raise InvalidName(kind=kind, name=name, problem="it must be a text")
    if not name or len(name.encode("utf-8", "replace")) > _MAX_BYTES:
        problem = f"it must have 1 to {_MAX_BYTES} bytes"
    elif name[0] in "-." or ".." in name:
        problem = "it must not start with '-' or '.' nor contain '..'"
    elif name in HEADS or name in ("runs", "tags", "remotes", "first"):
        problem = "the word has a meaning of its own in revisions"
    else:
        bad = next((char for char in name if char in _FORBIDDEN or not _is_plain(char)), None)
        if bad is not None:
            problem = f"the character {bad!a} is not allowed"
    if problem:
        raise InvalidName(kind=kind, name=name, problem=problem)
    return name


def is_text(value: object) -> bool:
    """Whether a value is a str that has a UTF-8 form (no lone surrogates)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_plain(char: str) -> bool:
    return unicodedata.category(char)[0] in "LNPSM"


def head_ref(run: str, head: str) -> str:
    """The ref of a head of a run."""
    return f"runs/{run}/{head}"


def tag_ref(tag: str) -> str:
    """The ref of a tag."""
    return f"tags/{tag}"


def run_of(ref: str) -> tuple[str, str] | None:
    """(run, head) of a run's ref, None for other refs."""
    first, _, rest = ref.partition("/")
    run, _, head = rest.rpartition("/")
    return (run, head) if first == "runs" and run else None


def tracking_ref(remote: str, name: str) -> str:
    """The ref that says where a ref of a remote was."""
    return f"{REMOTES}{remote}/{name}"


def tracked_by(ref: str) -> tuple[str, str] | None:
    """(remote, ref of it) of a ref that says where one of a remote was, None for other refs."""
    remote, _, name = ref.removeprefix(REMOTES).partition("/")
    return (remote, name) if ref.startswith(REMOTES) and name else None
