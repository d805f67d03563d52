"""Completion: what could stand where the cursor is, as a shell asks through click's protocol.

A shell asks by starting casckpt with `_CASCKPT_COMPLETE` in its environment. Values come from the index alone, the
store is opened read-only, and whatever fails gives no values: a shell must never see a traceback between two words.
Which values a parameter takes is told by its name, in `VALUES`, so that commands need not know of completion.

Names come from stores, which may be foreign, and a chosen value becomes part of a command line. So names that a shell
would take apart are never offered.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class
from click.shell_completion import split_arg_string as split_words

from casckpt.cli.call import Call
from casckpt.cli.table import COMMANDS
from casckpt.view.text import safe

if TYPE_CHECKING:
    from casckpt.ops.values import CommitInfo
    from casckpt.store import Store

VARIABLE = "_CASCKPT_COMPLETE"
RECENT = 20
MOST = 500
_ID_MIN = 4
_SAFE = re.compile(r"[\w./:@=+,%~^-]+")
_BREAKS = "\"'@><=;|&(:"
"""What ends a word for bash if nobody changed it."""

Value = tuple[str, str]
"""What may stand there, and a few words about it."""

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD COMP_LINE="${COMP_LINE:0:COMP_POINT}" \\
        COMP_WORDBREAKS="$COMP_WORDBREAKS" %(complete_var)s=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    for completion in $response; do
        value=${completion#*,}
        case $completion in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            plain,*) COMPREPLY+=("$value"); [[ $value == *[/:=] ]] && compopt -o nospace ;;
        esac
    done
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@add_completion_class
class _Bash(BashComplete):
    """Completion for bash that takes `REV:path`, `run@step=4` and `--best=loss` as one word.

    Bash breaks words at `:`, `@` and `=`, hands over the pieces, and replaces the last piece only. So the line is read
    as a whole, and of each value only what follows the last break is answered.
    """

    source_template = _BASH
    behind = 0
    """How many characters of the last word bash leaves as they are."""

    def get_completion_args(self) -> tuple[list[str], str]:
        environ = self.ctx_args["obj"].environ
        line = environ.get("COMP_LINE")
        if line is None:
            return super().get_completion_args()
        words = split_words(line)
        last = "" if line[-1:].isspace() or not words else words.pop()
        # Of --best=loss the values are those of the option, without its name.
        value = last.partition("=")[2] if last.startswith("-") and "=" in last else last
        self.behind = _after_break(line, value, environ.get("COMP_WORDBREAKS", _BREAKS))
        return words[1:], last

    def format_completion(self, item: CompletionItem[str]) -> str:
        return f"plain,{item.value[self.behind :]}" if item.type == "plain" else super().format_completion(item)


def _after_break(line: str, last: str, breaks: str) -> int:
    """How many characters of the last word come before its last break."""
    if '"' in line or "'" in line:  # within quotes it breaks nothing
        return 0
    return max((last.rfind(char) + 1 for char in breaks if not char.isspace()), default=0)


def respond(root: click.Command, call: Call, instruction: str) -> int:
    """Answer a shell: `bash_complete` gives values, `bash_source` the script. Never says that anything went wrong."""
    shell, _, task = instruction.partition("_")
    found = ""
    # What a library logs or prints would stand between two words of the user's line.
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Exception), call.opened:
        asked = get_completion_class(shell)
        if asked is not None and task in ("complete", "source"):
            completion = asked(root, {"obj": call}, "casckpt", VARIABLE)
            found = completion.complete() if task == "complete" else completion.source()
    if found:
        call.output.answer([found])
        call.output.flush()
    return 0


def source(shell: str, root: click.Command, call: Call) -> str:
    """The script that makes a shell ask."""
    asked = get_completion_class(shell)
    assert asked is not None
    return asked(root, {"obj": call}, "casckpt", VARIABLE).source()


def commands(call: Call, incomplete: str) -> list[CompletionItem[str]]:
    """Commands with their help lines, then the user's aliases. Imports none of them."""
    from casckpt.cli.settings import aliases

    found = [(name, entry.help) for name, entry in COMMANDS.items()]
    found += [(name, line) for name, line in aliases(call.environ).items() if name not in COMMANDS]
    return _items(found, incomplete)


def values(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """What a parameter may say, none if nobody can know."""
    asked = VALUES.get(parameter.name or "")
    if asked is None:
        return []
    if asked in (_files, _folders):
        return [CompletionItem(incomplete, type="file" if asked is _files else "dir")]
    call = context.find_object(Call)
    assert call is not None
    return _items(asked(call, context, incomplete), incomplete)


def _items(found: Iterable[Value], incomplete: str) -> list[CompletionItem[str]]:
    items: dict[str, CompletionItem[str]] = {}
    for value, about in found:
        if value.startswith(incomplete) and _SAFE.fullmatch(value) and value.isprintable():
            items.setdefault(value, CompletionItem(value, help=safe(about) or None))
            if len(items) == MOST:
                break
    return list(items.values())


def _store(call: Call) -> Store:
    """The store of the call, opened for reading: completion neither builds an index nor brings one up to date."""
    from casckpt import store as api
    from casckpt.ops.settings import StoreSettings

    settings = StoreSettings.of(call.settings, strict=False)
    return call.opened.enter_context(api.open(call.locate(), read_only=True, settings=settings))


def _about(commit: CommitInfo) -> str:
    """Step and first metrics of a commit."""
    from casckpt.view import text as t

    step = "" if commit.step is None else f"step {commit.step}"
    return "  ".join(part for part in (step, t.metrics(commit.metrics, 2)) if part) or commit.message[:40]


def _runs(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    for run in _store(call).runs():
        yield run.name, _about(run.last)


def _tags(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    for name, commit in sorted(_store(call).status().tags.items()):
        yield name, f"tag of {commit[:12]}"


def _operations(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    for operation in _store(call).operations(RECENT):
        yield str(operation.number), operation.op


def _names(store: Store) -> Iterator[Value]:
    """What refs are called for short, the newest run first."""
    found = store.status()
    for run in found.runs:
        yield run.name, _about(run.last)
    for run in found.runs:
        if run.best is not None:
            yield f"{run.name}/best", _about(run.best)
    for name, commit in sorted(found.tags.items()):
        yield name, f"tag of {commit[:12]}"


def _revisions(call: Call, context: click.Context, incomplete: str) -> Iterator[Value]:
    from casckpt.plan.revision import split_path

    store = _store(call)
    revision, path = split_path(incomplete)
    if path is not None:
        yield from _paths(store, revision, path)
        return
    before, dots, last = _range(revision)
    found = chain(_names(store), _ids(store, last))
    yield from ((f"{before}{dots}{name}", about) for name, about in found)


def _range(text: str) -> tuple[str, str, str]:
    """What is before the dots of a range, the dots, and the revision behind them; only that without dots."""
    found = re.fullmatch(r"(.+?)(\.\.\.?)(.*)", text)
    return (found[1], found[2], found[3]) if found else ("", "", text)


def _ids(store: Store, digits: str) -> Iterator[Value]:
    """The newest commits by id; of four digits and more any commit that they name alone."""
    from casckpt.errors import CasckptError

    for commit in store.log(None, limit=RECENT):
        yield commit.short, f"{commit.run}  {_about(commit)}"
    if len(digits) >= _ID_MIN and not set(digits) - set("0123456789abcdef"):
        with contextlib.suppress(CasckptError):
            commit = store.show(f"id:{digits}")
            yield commit.short, f"{commit.run}  {_about(commit)}"


def _paths(store: Store, revision: str, path: str) -> Iterator[Value]:
    """One level of a commit's paths below what is typed of one; containers end in a slash."""
    above, slash, _ = path.rpartition("/")
    for entry in store.ls(f"{revision}:{above}" if slash else revision):
        shape = "" if entry.shape is None else "[" + ", ".join(map(str, entry.shape)) + "]"
        kind = " ".join(part for part in (entry.dtype or entry.kind, shape) if part)
        yield f"{revision}:{entry.path}" + ("/" if entry.leaves is not None else ""), kind


def _refs(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    yield from _names(_store(call))


def _metric_names(call: Call) -> list[str]:
    """Metrics of the newest and best commits of every run."""
    store = _store(call)
    commits = [commit for run in store.runs() for commit in (run.last, run.best) if commit is not None]
    commits += store.log(None, limit=RECENT)
    return sorted({name for commit in commits for name in commit.metrics})


def _metrics(call: Call, context: click.Context, incomplete: str) -> Iterator[Value]:
    """Names of metrics; a commit gives them values."""
    end = "=" if context.info_name == "commit" else ""
    yield from ((f"{name}{end}", "") for name in _metric_names(call))


def _rules(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    for name in _metric_names(call):
        yield f"{name}:min", "the least is best"
        yield f"{name}:max", "the greatest is best"


def _filters(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    for key in (
        *_metric_names(call),
        "step",
        "epoch",
        "time",
        "age",
        "run",
        "kind",
        "status",
        "message",
        "author",
        "tag",
    ):
        yield key, ""


def _keys(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    from casckpt.plan.policy import KEYS
    from casckpt.plan.settings import ALIAS, RETENTION, SETTINGS

    yield from ((key, setting.help) for key, setting in SETTINGS.items())
    yield from ((f"{RETENTION}.{key}", "") for key in KEYS if key != "runs")
    yield from ((f"{ALIAS}{name}", line) for name, line in call.settings.aliases().items())


def _setting_values(call: Call, context: click.Context, incomplete: str) -> Iterator[Value]:
    from casckpt.plan.settings import setting_of

    remote, part = context.params.get("remote"), context.params.get("remote_key")
    setting = setting_of(f"remote.{remote}.{part}" if part else context.params["key"])
    yield from ((choice, "") for choice in setting.choices or (("true", "false") if setting.kind == "flag" else ()))
    if setting.kind == "run":
        yield from _runs(call, context, incomplete)


def _remotes(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    yield from ((remote.name, remote.url) for remote in _store(call).remotes())


def _names_there(call: Call, context: click.Context, incomplete: str) -> Iterator[Value]:
    """Runs and tags of a remote as they were when it was last looked at."""
    from casckpt.plan.names import run_of

    remote = str(context.params.get("remote") or "")
    for ref in () if not remote else _store(call).tracking(remote):
        head = run_of(ref)
        if head is not None:
            yield (head[0] if head[1] == "last" else "/".join(head)), remote
        elif ref.startswith("tags/"):
            yield ref.removeprefix("tags/"), remote


def _remote_keys(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    from casckpt.plan.remote_settings import REMOTE_KEYS

    yield from ((key, known.help) for key, known in REMOTE_KEYS.items())


def _assignments(call: Call, context: click.Context, incomplete: str) -> Iterator[Value]:
    from casckpt.plan.settings import SETTINGS

    for key, setting in SETTINGS.items():
        yield from ((f"{key}={choice}", setting.help) for choice in setting.choices or ("",))


def _topics(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    from casckpt.cli.topics import topics

    yield from topics()


def _files(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    return iter(())  # the shell knows them better


def _folders(call: Call, _: click.Context, incomplete: str) -> Iterator[Value]:
    return iter(())


VALUES: dict[str, Callable[[Call, click.Context, str], Iterator[Value]]] = {
    **dict.fromkeys(("rev", "revs", "a", "b", "runs", "lease", "since"), _revisions),
    **dict.fromkeys(("paths", "dest", "policy"), _files),
    **dict.fromkeys(("path", "store", "url"), _folders),
    "ref": _refs,
    "run": _runs,
    "name": _tags,
    "op": _operations,
    "remote": _remotes,
    "names": _names_there,
    "remote_key": _remote_keys,
    **dict.fromkeys(("best", "metric"), _rules),
    **dict.fromkeys(("metrics", "checks", "sort"), _metrics),
    "where": _filters,
    "key": _keys,
    "value": _setting_values,
    "assignments": _assignments,
    "topic": _topics,
}
"""What gives the values of a parameter, by the name of the parameter."""
