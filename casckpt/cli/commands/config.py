"""casckpt config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casckpt.cli.call import Answer, Call
from casckpt.cli.options import command, dry_run
from casckpt.cli.table import COMMANDS
from casckpt.view.text import safe

if TYPE_CHECKING:
    from casckpt.plan.settings import Value

_FORMS = {"list": "", "get": " KEY", "set": " KEY VALUE", "unset": " KEY"}


@command(
    "casckpt config",
    "casckpt config list --origin",
    "casckpt config set run gpt",
    "casckpt config set time local --user",
    "casckpt config set alias.best \"log -w 'has val/loss' -n 5\"",
    "casckpt config set retention.keep_last 3",
    "casckpt config unset run -n",
)
@click.argument("action", type=click.Choice(list(_FORMS)), default="list")
@click.argument("key", required=False)
@click.argument("value", required=False)
@click.option("--user", is_flag=True, help="Set it in your own file, for all stores.")
@click.option("--origin", is_flag=True, help="Show where each value comes from.")
@dry_run
def config_command(
    call: Call, action: str, key: str | None, value: str | None, user: bool, origin: bool, dry_run: bool
) -> Answer:
    """Show and change settings.

    Without a word it lists them all. A setting that concerns the commits of a store (run, compress, threads, upkeep,
    health_gate, fetch_on_demand) is set in the file of the store, unless --user is given; the keys of its retention
    policy always there; all others in your own file. An empty VALUE is a value, and unset takes one away. casckpt help
    settings tells what each does, and which place wins.
    """
    words = tuple(word for word in (key, value) if word is not None)
    if len(words) != len(_FORMS[action].split()):
        raise click.UsageError(f"it is casckpt config {action}{_FORMS[action]}")
    if user and action in ("list", "get"):
        raise click.UsageError(f"--user is for set and unset; {action} --origin shows where values come from")
    if action == "list":
        return _list(call, origin=origin)
    assert key is not None
    if action == "get":
        return _get(call, key, origin=origin)
    return _change(call, key, value, user=user, dry_run=dry_run)


def _list(call: Call, *, origin: bool) -> Answer:
    from casckpt.plan.settings import ALIAS, RETENTION, SETTINGS
    from casckpt.view.settings import list_lines, setting_dict

    settings = call.settings
    _warn(call)
    tables = (*settings.said_of(RETENTION), *settings.said_of("remote"))
    keys = [*SETTINGS, *tables, *(ALIAS + name for name in settings.aliases())]
    found = [setting_dict(settings, key) for key in keys]
    return Answer(
        lambda: {"settings": found},
        lambda look: list_lines(settings, keys, look, origin=origin),
        records=lambda: found,
        record="setting",
    )


def _get(call: Call, key: str, *, origin: bool) -> Answer:
    from casckpt.view.settings import origin_text, setting_dict, value_text

    settings = call.settings
    found = setting_dict(settings, key)
    _warn(call)
    text = value_text(settings.get(key)) + (f"  ({origin_text(settings, key)})" if origin else "")
    return Answer(lambda: {"setting": found}, lambda _: [text])


def _warn(call: Call) -> None:
    for problem in call.settings.problems:
        call.warn(problem.code, f"{problem.summary}: {problem.reason}")


def _change(call: Call, key: str, text: str | None, *, user: bool, dry_run: bool) -> Answer:
    from casckpt.plan.settings import STORE, USER, parse_value, refuse_place, setting_of

    setting = setting_of(key)
    in_store = setting.of_store and not user
    place = _store_file(call) if in_store else _user_file(call)
    refuse_place(STORE if in_store else USER, key, text, place)
    key = setting.name
    value = None if text is None else parse_value(key, text, place, list(COMMANDS))
    call.outcome = "the settings are as before"
    _edit(call, key, value, in_store=in_store, dry_run=dry_run)
    data = {"key": key, "value": value, "place": place, "dry_run": dry_run}
    return Answer(lambda: data, lambda _: [_said(key, value, place, dry_run=dry_run)], confirms=not dry_run)


def _store_file(call: Call) -> str:
    import os

    from casckpt.errors import StoreNotFound

    call.place = call.locate()
    if not os.path.exists(os.path.join(call.place, "format")):
        raise StoreNotFound(path=call.place, problem="it holds no `format` file; --user sets it for all stores")
    return os.path.join(call.place, "config.toml")


def _user_file(call: Call) -> str:
    from casckpt.cli.settings import user_file

    return user_file(call.environ)


def _edit(call: Call, key: str, value: Value, *, in_store: bool, dry_run: bool) -> None:
    from casckpt.ops.settings_edit import edit_store, edit_user
    from casckpt.storage.local import LocalStorage

    if in_store:
        edit_store(LocalStorage(str(call.place)), key, value, dry_run=dry_run)
    else:
        edit_user(_user_file(call), key, value, dry_run=dry_run)


def _said(key: str, value: Value, place: str, *, dry_run: bool) -> str:
    from casckpt.view.settings import value_text

    now = "not set" if value is None else value_text(value) or "empty"
    return f"{safe(key)} {'would be' if dry_run else 'is'} {now} in {safe(place)}"
