"""What scripts rely on: options anywhere, one envelope, exit codes, help and examples for every command."""

import shlex
from pathlib import Path

import click
import pytest

from casckpt import errors, store
from casckpt.cli.app import root
from casckpt.cli.call import Call
from casckpt.cli.output import Output
from casckpt.cli.table import COMMANDS, SECTIONS
from casckpt.errors import CasckptError
from tests.cli import scenes
from tests.cli.runner import run


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scenes.history(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def context_of(words: list[str]) -> click.Context:
    return root.make_context("casckpt", list(words), obj=Call(Output({}), {}))


def commands() -> dict[str, click.Command]:
    context = context_of(["log"])
    found = {name: root.get_command(context, name) for name in COMMANDS}
    return {name: command for name, command in found.items() if command is not None}


def test_the_help_of_the_table_is_the_help_of_the_command() -> None:
    for name, command in commands().items():
        assert command.name == name
        assert (command.help or "").partition("\n")[0] == COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_parse(name: str) -> None:
    command = commands()[name]
    examples = command.examples  # type: ignore[attr-defined]
    assert examples
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "casckpt"
        context = context_of(words)
        rest = [*context._protected_args, *context.args]
        assert rest[0] == name
        command.make_context(name, rest[1:], parent=context)


def test_no_command_stands_in_two_sections_and_none_takes_a_global_option() -> None:
    assert sum(map(len, SECTIONS.values())) == len(COMMANDS)
    for name, command in commands().items():
        names = [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
        assert len(names) == len(set(names)), name


@pytest.mark.parametrize("words", [["--json", "log"], ["log", "--json"], ["log", "-n", "1", "--json", "gpt"]])
def test_json_is_taken_before_and_after_the_command(history: Path, words: list[str]) -> None:
    assert run(*words).envelope["schema"] == "casckpt.log/1"


@pytest.mark.parametrize(
    "words",
    [
        ["-C", "{store}", "status"],
        ["status", "-C", "{store}"],
        ["status", "--store={store}"],
        ["-C", "nowhere", "status", "-C", "{store}"],
        ["-C", "{folder}", "status"],
    ],
)
def test_the_store_is_taken_before_and_after_the_command(
    history: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    done = run("--json", *(word.format(store=history / scenes.STORE, folder=history) for word in words))
    assert done.envelope["store"] == str(history / scenes.STORE)


def test_the_store_is_found_above_and_named_by_the_environment(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = str(history / scenes.STORE)
    monkeypatch.chdir(history / "out" / "sub")
    assert run("status", "--json").envelope["store"] == expected
    monkeypatch.chdir("/")
    assert run("status", "--json").code == 3
    assert run("status", "--json", environ={"CASCKPT_STORE": expected}).envelope["store"] == expected
    assert run("status", "-C", "/nowhere", environ={"CASCKPT_STORE": expected}).code == 3


def test_the_run_is_named_by_the_environment(history: Path) -> None:
    done = run("commit", "out", "--json", environ={"CASCKPT_RUN": "from-env"})
    assert done.envelope["data"]["commit"]["run"] == "from-env"
    done = run("commit", "out", "--json", "-r", "given", environ={"CASCKPT_RUN": "from-env"})
    assert done.envelope["data"]["commit"]["run"] == "given"


def all_errors() -> list[type[CasckptError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CasckptError)]


@pytest.mark.parametrize("error", all_errors())
def test_every_error_has_its_exit_code_and_its_envelope(
    history: Path, monkeypatch: pytest.MonkeyPatch, error: type[CasckptError]
) -> None:
    def fail(*_: object) -> None:
        raise error(wait_s=1.0, odd=b"\xff", deep=(1, float("nan")))

    monkeypatch.setattr(store.Store, "status", fail)
    done = run("status", "--json")
    assert done.code == error.exit_code == done.envelope["exit"]
    assert done.envelope["schema"] == "casckpt.error/1"
    assert done.envelope["error"]["code"] == error.code
    assert done.envelope["error"]["details"] == {"wait_s": 1.0, "odd": "ff", "deep": [1, "NaN"]}
    assert done.err == ""
    text = run("status")
    assert (text.code, text.out) == (error.exit_code, "")
    assert text.err.startswith("error: ")


def test_a_bug_takes_one_line_and_exit_70_and_shows_its_traceback_only_if_asked(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("wires \x1b[31mcrossed")

    monkeypatch.setattr(store.Store, "status", fail)
    done = run("status")
    assert (done.code, done.out) == (70, "")
    assert done.err.splitlines()[0] == "error: unexpected RuntimeError: wires \\x1b[31mcrossed"
    assert "Traceback" not in done.err
    assert run("status", "--json").envelope["error"]["code"] == "bug"
    deep = run("status", "-vv")
    assert "Traceback" in deep.err
    assert "\x1b" not in deep.err
    assert "Traceback" in run("-v", "status", "-v").err


def test_an_interrupt_takes_one_line_and_exit_130(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def clumsy(*_: object) -> None:
        try:
            interrupt()
        finally:
            raise BufferError("cleaning up failed")

    monkeypatch.setattr(store.Store, "status", interrupt)
    monkeypatch.setattr(store.Store, "tag", interrupt)
    monkeypatch.setattr(store.Store, "show", clumsy)
    done = run("status")
    assert (done.code, done.out, done.err) == (130, "", "interrupted; nothing was changed\n")
    assert run("status", "--json").envelope["error"]["code"] == "interrupted"
    assert run("show").err == done.err
    assert run("tag", "v9").err == "interrupted; casckpt tag lists the tags that were given\n"


@pytest.mark.parametrize(
    ("done_bytes", "says"),
    [(10, "nothing was committed"), (100, "the commit may have been made: casckpt log tells")],
)
def test_an_interrupted_commit_says_what_is_known(
    history: Path, monkeypatch: pytest.MonkeyPatch, done_bytes: int, says: str
) -> None:
    def interrupted(*_: object, progress: object, **__: object) -> None:
        assert callable(progress)
        progress(done_bytes, 100)
        raise KeyboardInterrupt

    monkeypatch.setattr(store.Store, "commit_path", interrupted)
    assert run("commit", "out").err == f"interrupted; {says}\n"


def test_a_tag_taken_meanwhile_leaves_the_commit_and_says_so(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object) -> None:
        raise errors.RefExists(ref="tag 'v9'", actual="0" * 12)

    monkeypatch.setattr(store.Store, "tag", taken)
    done = run("commit", "out", "--tag", "v9")
    assert done.code == 5
    assert "was made, but not tagged" in done.err
    failed = run("commit", "out", "--tag", "v9", "--json").envelope
    assert (
        failed["error"]["details"]["commit"]
        == run("log", "main", "-n", "1", "--json").envelope["data"]["commits"][0]["id"]
    )


def test_quiet_leaves_out_confirmations_and_keeps_answers_and_errors(history: Path) -> None:
    assert run("-q", "tag", "v2") == run("tag", "v3", "-q")
    assert run("tag", "v4", "-q").out == ""
    assert run("log", "-q").out
    assert run("show", "nothing", "-q").err.startswith("error: ")
    assert run("tag", "v5", "-q", "--json").envelope["data"]["tag"] == "v5"


@pytest.mark.parametrize("text", ["1", "-1", "0", "1e3", "nan", "inf", "-inf", "0.25", "123456789012"])
def test_metrics_keep_their_kind_and_value(history: Path, text: str) -> None:
    done = run("commit", "out", "--json", "--metric", f"a=b={text}")
    value = done.envelope["data"]["commit"]["metrics"]["a=b"]
    whole = text.lstrip("-").isdigit()
    expected = int(text) if whole else float(text)
    assert value == expected or value == {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[text]
    assert isinstance(value, int) == whole


@pytest.mark.parametrize("text", ["x", "", "1_000", "0x10", "1.2.3", "٣.٥x"])
def test_what_is_no_number_is_refused(history: Path, text: str) -> None:
    assert run("commit", "out", "--metric", f"a={text}").code == 2
    assert run("commit", "out", "--metric", text).code == 2
    assert run("commit", "out", "--epoch", text).code == 2


def test_what_is_checked_out_is_what_was_committed(history: Path) -> None:
    assert run("commit", "out").code == 0
    assert run("checkout", "main", "back").code == 0
    for path in Path("out").rglob("*"):
        assert path.is_dir() or Path("back", path).read_bytes() == path.read_bytes()
