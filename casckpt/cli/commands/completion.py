"""casckpt completion."""

from __future__ import annotations

import os
from collections.abc import Mapping

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.errors import StorageError
from casckpt.view.text import safe

SHELLS = ("bash", "zsh", "fish", "powershell")


@command(
    "casckpt completion bash --install",
    "casckpt completion zsh",
    "casckpt completion fish --install --dry-run",
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.option("--install", is_flag=True, help="Write it where the shell looks for it.")
@dry_run
def completion_command(call: Call, shell: str, install: bool, dry_run: bool) -> Answer:
    """Print or install the completion of a shell.

    It completes commands, options, revisions, runs, tags, metrics, settings, and paths within a commit behind REV: .
    --install writes one file of its own and changes no other; where the shell needs a line in its start-up file to
    find it, that line is said.
    """
    from casckpt.cli.complete import source

    script = source(shell, click.get_current_context().find_root().command, call)
    if not install:
        return Answer(lambda: {"shell": shell, "script": script}, lambda _: script.splitlines())
    path, line = _place(shell, call.environ)
    if not dry_run:
        _write(path, script)
    data = {"shell": shell, "path": path, "line": line, "dry_run": dry_run}
    said = [f"{'would write' if dry_run else 'wrote'} {safe(path)}"]
    said += [f"put this line into {line[0]}:", f"  {line[1]}"] if line else ["a new shell finds it"]
    return Answer(lambda: data, lambda _: said)


def _place(shell: str, environ: Mapping[str, str]) -> tuple[str, tuple[str, str] | None]:
    """Where the script of a shell belongs, and the start-up file and line the shell needs to find it, if any."""
    home = environ.get("HOME") or os.path.expanduser("~")
    data = environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    if shell == "bash":
        # Found by the package bash-completion, which nearly every distribution starts.
        return os.path.join(data, "bash-completion", "completions", "casckpt"), None
    if shell == "fish":
        return os.path.join(config, "fish", "completions", "casckpt.fish"), None
    if shell == "zsh":
        folder = os.path.join(data, "zsh", "site-functions")
        return os.path.join(folder, "_casckpt"), ("~/.zshrc, before compinit", f"fpath=({folder} $fpath)")
    path = os.path.join(config, "powershell", "casckpt.ps1")
    return path, ("the file that $PROFILE names", f". {path}")


def _write(path: str, script: str) -> None:
    fresh = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(script)
        os.replace(fresh, path)
    except OSError as error:
        problem = os.strerror(error.errno or 0)
        raise StorageError(operation="write", path=path, problem=problem, errno=error.errno) from error
