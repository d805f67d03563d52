"""The package as the rules of the house see it: files parsed, never imported, and what each of them imports.

Imports count wherever they hide: inside functions, under TYPE_CHECKING, in `import_module("casckpt...")`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

TOP = "casckpt"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One breach of one rule, at a line that can be jumped to."""

    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `from target import name as bound`.

    The target is absolute; it ends in `.*` if the last part is computed. The name is "" where a whole module is
    imported. `late` says that the import runs inside a function, `typing` that it never runs.
    """

    target: str
    name: str
    bound: str
    line: int
    late: bool
    typing: bool

    @property
    def full(self) -> str:
        return f"{self.target}.{self.name}" if self.name else self.target


@dataclass(frozen=True, slots=True)
class Module:
    """One parsed file of the package or of the tools."""

    name: str
    path: str
    lines: int
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def is_init(self) -> bool:
        return self.path.endswith("__init__.py")

    @property
    def room(self) -> str:
        return room_of(self.name)

    def finding(self, line: int, rule: str, text: str) -> Finding:
        return Finding(self.path, line, rule, text)


@dataclass(slots=True)
class House:
    """A checkout as the rules see it: modules by dotted name, and the files that could not be parsed."""

    root: Path
    modules: dict[str, Module] = field(default_factory=dict)
    tools: list[Module] = field(default_factory=list)
    broken: list[Finding] = field(default_factory=list)

    def targets(self, one: Import) -> list[str]:
        """Modules of the house that an import loads; empty for anything else."""
        if one.target.endswith(".*"):
            parent = one.target[:-2]
            return [name for name in self.modules if name.rpartition(".")[0] == parent]
        name = one.full
        while name and name not in self.modules:
            name = name.rpartition(".")[0]
        return [name] if name else []


def room_of(name: str) -> str:
    """The room of a dotted name inside casckpt: `odb` for `casckpt.odb.index`, "" for casckpt itself."""
    return name.split(".")[1] if "." in name else ""


def within(name: str, parents: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the parents or inside one."""
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


class _Imports(ast.NodeVisitor):
    """Collects every import of one module, with the two facts that matter: does it run late, is it for types only."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.found: list[Import] = []
        self.late = self.typing = self.loads_by_name = False

    def add(self, target: str, name: str, bound: str, line: int) -> None:
        self.found.append(Import(target, name, bound, line, self.late, self.typing))

    def absolute(self, text: str, level: int) -> str:
        if level == 0:
            return text
        parents = self.package.split(".")[: len(self.package.split(".")) - level + 1]
        return ".".join([*parents, text] if text else parents)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name, "", alias.asname or alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        target = self.absolute(node.module or "", node.level)
        for alias in node.names:
            name = "" if alias.name == "*" else alias.name
            self.add(target, name, alias.asname or name, node.lineno)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        before = self.typing
        self.typing = before or ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for child in node.body:
            self.visit(child)
        self.typing = before
        for child in node.orelse:
            self.visit(child)

    def visit_FunctionDef(self, node: Function) -> None:
        before, self.late = self.late, True
        self.generic_visit(node)
        self.late = before

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Call(self, node: ast.Call) -> None:
        if called(node) in ("import_module", "__import__"):
            self.loads_by_name = True
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                level = len(first.value) - len(first.value.lstrip("."))
                target = self.absolute(first.value.lstrip("."), level)
                if level or not target.startswith(TOP + "."):  # `imports_of` finds the absolute ones
                    self.add(target, "", "", node.lineno)
        self.generic_visit(node)


def called(node: ast.Call) -> str:
    """The last name of what is called: `now` for `datetime.now()`."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)


def dotted(node: ast.expr) -> str:
    """The text of a plain chain of names, as `os.path.join`; "" for any other expression."""
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return node.id if isinstance(node, ast.Name) else ""


def imports_of(tree: ast.Module, package: str) -> tuple[Import, ...]:
    """All imports of a module, including the strings it may hand to `import_module`."""
    visitor = _Imports(package)
    visitor.visit(tree)
    if visitor.loads_by_name:
        # The name is often kept in a table, so every string that looks like a module of ours counts.
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                match = re.fullmatch(r"(casckpt(?:\.[A-Za-z]\w*)*)(\.|\.\w+|:\w+)?", node.value)
                if match and match[0] != TOP:
                    tail = match[2] or ""
                    target = match[1] + (".*" if tail == "." else "")
                    visitor.found.append(Import(target, "", "", node.lineno, late=True, typing=False))
    return tuple(visitor.found)


def read_module(root: Path, file: Path, name: str) -> Module | Finding | None:
    """One parsed file; a finding if Python cannot read it, None if it vanished meanwhile."""
    path = file.relative_to(root).as_posix()
    try:
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text, path)
    except FileNotFoundError:
        return None
    except SyntaxError as error:
        return Finding(path, error.lineno or 1, "syntax", error.msg)
    except ValueError as error:  # not UTF-8, or NUL bytes
        return Finding(path, 1, "syntax", str(error))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return Module(name, path, len(text.splitlines()), tree, imports_of(tree, package))


def read(root: Path) -> House:
    """The house under `root`; missing rooms are no fault."""
    house = House(root)
    for file in sorted((root / TOP).rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        match read_module(root, file, name):
            case Module() as module:
                house.modules[name] = module
            case Finding() as finding:
                house.broken.append(finding)
    scripts = [file for file in (root / "tools" / "check", root / "tools" / "run") if file.is_file()]
    for file in [*scripts, *sorted((root / "tools").rglob("*.py"))]:
        match read_module(root, file, ".".join(file.relative_to(root).with_suffix("").parts)):
            case Module() as module:
                house.tools.append(module)
            case Finding() as finding:
                house.broken.append(finding)
    return house
