"""The rules of the house, read from the source without importing it.

The tables below say which rooms exist, on which floor they stand, which module is the door of a dependency and what
a pure room may not touch. Every rule is a generator over one parsed `House`; `check` runs them all. Imports count
wherever they hide: inside functions, under TYPE_CHECKING, in `import_module("casckpt...")`.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.pages import dead_links
from tools.source import TOP, Finding, Function, House, Module, called, dotted, read, room_of, within

FLOORS = (
    ("cli",),
    ("ui",),
    ("integrations",),
    ("train",),
    ("store",),
    ("exchange", "syncing", "distant", "bundling", "browse", "comparing", "naming", "lifetime", "upkeep"),
    ("view",),
    ("ops",),
    ("remote",),
    ("plan", "odb"),
    ("format", "state", "storage", "foreign"),
    ("units", "errors"),
)
"""Rooms from the roof down. A room imports rooms on lower floors only; rooms on one line do not know each other."""

FLOOR = {room: number for number, line in enumerate(FLOORS) for room in line}
TOP_IMPORTS = {"store", "errors"}
"""What `casckpt/__init__.py` may load; it is the front of `store`, so only rooms above `store` may import it."""

DOORS: dict[str, tuple[str, ...]] = {
    "blake3": ("casckpt.format.ids",),
    "msgpack": ("casckpt.format.canonical",),
    "zstandard": ("casckpt.format.codec",),
    "lmdb": ("casckpt.odb.index",),
    "pyfastcdc": ("casckpt.foreign.content",),
    "obstore": ("casckpt.storage.object",),
    "botocore": ("casckpt.storage.credentials",),
    "torch": (
        *("casckpt.state.tensors", "casckpt.state.kinds.tensor_making", "casckpt.state.kinds.tensor_objects"),
        *(
            "casckpt.state.kinds.tensor_layouts",
            "casckpt.state.kinds.quantized",
            "casckpt.train",
            "casckpt.integrations",
        ),
        "casckpt.ops.torch_files",
    ),
    "h5py": ("casckpt.ops.h5",),
    "click": ("casckpt.cli",),
    "tomlkit": ("casckpt.ops.settings_edit",),
    "numpy": ("casckpt",),
}
"""Which modules (or whole rooms) may import a dependency. Frameworks without a row belong to `integrations`."""

NUMPY_AT_TOP = {
    "casckpt.state.arrays": "its values are arrays",
    "casckpt.state.kinds.array_dtypes": "loaded only when an array or a generator appears",
    "casckpt.state.kinds.array_generators": "loaded only when an array or a generator appears",
    "casckpt.state.kinds.array_objects": "loaded only when an array or a generator appears",
    "casckpt.state.tensors": "loaded only when a tensor appears",
    "casckpt.format.delta_encode": "loaded only to encode numbers",
    "casckpt.format.finite": "loaded only where there are numbers",
    "casckpt.format.pack_columns": "loaded only to free space and to tell where it is",
    "casckpt.format.classes": "loaded only to code numbers",
    "casckpt.format.planes": "loaded only to decode numbers",
    "casckpt.format.widening": "loaded only to measure numbers",
    "casckpt.format.plane_encode": "loaded only to encode numbers",
    "casckpt.format.prediction": "loaded only to code numbers",
    "casckpt.format.words": "loaded only to code numbers",
    "casckpt.odb.pipeline": "loaded only to commit",
    "casckpt.ops.collect": "loaded only to free space",
    "casckpt.ops.du": "loaded only to tell where space is",
    "casckpt.ops.du_look": "loaded only to tell where space is",
    "casckpt.ops.du_rows": "loaded only to tell where space is",
    "casckpt.ops.copying": "loaded only to write packs again",
    "casckpt.ops.h5": "loaded only for HDF5 files",
    "casckpt.ops.marks": "loaded only to free space and to tell where it is",
    "casckpt.ops.measures": "loaded only to measure numbers",
    "casckpt.ops.reach": "loaded only to free space and to tell where it is",
    "casckpt.ops.remote_live": "loaded only to free space",
    "casckpt.plan.id_sets": "loaded only to free space and to tell where it is",
    "casckpt.ops.window_packing": "loaded only to free space",
    "casckpt.ops.windows": "loaded only to free space",
    "casckpt.plan.reclaim": "loaded only to free space and to tell where it is",
    "casckpt.plan.remote_gc": "loaded only to free space",
    "casckpt.plan.usage": "loaded only to tell where space is",
    "casckpt.remote.holding": "loaded only to push",
    "casckpt.remote.locating": "loaded only to fetch",
}
"""Modules that are themselves loaded late and may import numpy at module level; all others do so inside functions."""

PURE = ("format", "foreign", "plan", "state", "view", "units", "errors")
IMPURE_MODULES = {
    *("os", "io", "pathlib", "tempfile", "shutil", "glob", "mmap", "fcntl", "logging"),
    *("socket", "ssl", "select", "selectors", "http"),
    *("threading", "multiprocessing", "concurrent", "asyncio", "queue", "subprocess", "signal"),
    *("time", "random", "secrets"),
}
IMPURE_CALLS = {"open", "input", "now", "utcnow", "today", "uuid1", "uuid4"}
PURE_NAMES = {
    "pathlib": {"PurePath", "PurePosixPath", "PureWindowsPath"},
    "random": {"Random", "SystemRandom"},
}
"""Names of impure modules that pure rooms may use: paths that never touch a disk, types of generators."""
VALUES_OF = {"casckpt.state.kinds.objects": "pathlib"}
"""Modules that make values of a package's types, since states may hold them, and use nothing else of it."""

READ_ENVIRONMENT = ("casckpt.storage.credentials",)
"""Who reads the environment beside the command line: who looks there for credentials, which have no other place."""

SLOW_AT_START = ("numpy", "torch", "rich")
MODULE_LINES_MAX = 400
LISTS = {"casckpt.errors": 800}
"""Modules that are one long list of small declarations, which to split would only hide, and their most lines."""
FUNCTION_LINES_MAX = 70


def syntax(house: House) -> Iterator[Finding]:
    """Every file parses."""
    yield from house.broken


def exhaustive(house: House) -> Iterator[Finding]:
    """Every folder and module of the package has its place in FLOORS."""
    seen = set()
    for module in house.modules.values():
        if module.room and module.room not in FLOOR and module.room not in seen:
            seen.add(module.room)
            yield module.finding(1, "exhaustive", f"{module.room} has no place in FLOORS (tools/house.py)")


def floors(house: House) -> Iterator[Finding]:
    """Imports point down."""
    for module in house.modules.values():
        for one in module.imports:
            if one.target.split(".")[0] == TOP:
                target = room_of(one.full) if room_of(one.full) in FLOOR else room_of(one.target)
                fault = _fault(module.room, target)
                if fault:
                    yield module.finding(one.line, "floors", f"{fault}: {one.full}")


def _fault(source: str, target: str) -> str:
    """Why one room may not import another, empty if it may; "" is casckpt itself."""
    if not source:
        return "" if target in TOP_IMPORTS else "casckpt itself loads store and errors only"
    if source == target or source not in FLOOR or (target and target not in FLOOR):
        return ""
    if not target:
        return f"{source} stands below casckpt itself" if FLOOR[source] >= FLOOR["store"] else ""
    if FLOOR[target] == FLOOR[source]:
        return f"{source} and {target} do not know each other"
    return f"{source} stands below {target}" if FLOOR[target] < FLOOR[source] else ""


def values(house: House) -> Iterator[Finding]:
    """The room `view` takes values from `ops`, never its verbs."""
    for module in house.modules.values():
        for one in module.imports if module.room == "view" else ():
            source = house.modules.get(one.target)
            verbs = {node.name for node in source.tree.body if isinstance(node, Function)} if source else set()
            if room_of(one.target) == "ops" and one.name in verbs:
                yield module.finding(one.line, "values", f"view takes values from ops, not the verb {one.name}")


def cycles(house: House) -> Iterator[Finding]:
    """No module imports itself on any way, hidden imports included."""
    edges: dict[str, dict[str, int]] = {}
    for module in house.modules.values():
        out = edges.setdefault(module.name, {})
        for one in module.imports:
            for target in house.targets(one):
                if target != module.name:
                    out.setdefault(target, one.line)
    reported: set[str] = set()
    for start in sorted(edges):
        way = _way_back(edges, start)
        if way and not reported.intersection(way):
            reported.update(way)
            yield house.modules[start].finding(edges[start][way[1]], "cycles", " -> ".join(way))


def _way_back(edges: dict[str, dict[str, int]], start: str) -> list[str]:
    """The shortest way from a module back to itself, empty if there is none."""
    ways, seen = [[start]], {start}
    for way in ways:
        for target in edges[way[-1]]:
            if target == start:
                return [*way, start]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []


def underscores(house: House) -> Iterator[Finding]:
    """Underscore names stay in their module."""
    for module in house.modules.values():
        bound = set()
        for one in module.imports:
            hidden = [part for part in one.full.split(".") if _is_hidden(part)]
            if one.target.split(".")[0] == TOP and hidden:
                yield module.finding(one.line, "underscores", f"{hidden[0]} is private to {one.target}")
            if one.full in house.modules:
                bound.add(one.bound)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and _is_hidden(node.attr) and dotted(node.value) in bound:
                yield module.finding(node.lineno, "underscores", f"{node.attr} is private to {dotted(node.value)}")


def _is_hidden(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def doors(house: House) -> Iterator[Finding]:
    """Each dependency comes in by one door, and numpy late."""
    for module in house.modules.values():
        for one in module.imports:
            package = one.target.split(".")[0]
            if package in sys.stdlib_module_names or package in (TOP, "_typeshed"):
                continue
            if not within(module.name, DOORS.get(package, ("casckpt.integrations",))):
                ways = " or ".join(DOORS[package]) if package in DOORS else "a door named in DOORS (tools/house.py)"
                yield module.finding(one.line, "doors", f"{package} comes in through {ways}")
            elif package == "numpy" and not (one.late or one.typing or module.name in NUMPY_AT_TOP):
                text = "numpy slows the start: import it inside the function, or give a reason in NUMPY_AT_TOP"
                yield module.finding(one.line, "doors", text)


def purity(house: House) -> Iterator[Finding]:
    """Pure rooms touch no file, network, thread, clock, randomness, environment or log."""
    for module in house.modules.values():
        if module.room not in PURE:
            continue
        for one in module.imports:
            package = one.target.split(".")[0]
            harmless = package in PURE_NAMES and (one.typing or one.name in PURE_NAMES[package])
            harmless = harmless or VALUES_OF.get(module.name) == package
            if package in IMPURE_MODULES and not harmless:
                yield module.finding(one.line, "purity", f"{module.room} is pure and may not import {package}")
            if room_of(one.full) == "storage" and not _fault(module.room, "storage"):
                yield module.finding(one.line, "purity", f"{module.room} is pure and may not import storage")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and called(node) in IMPURE_CALLS and _is_global(node):
                yield module.finding(node.lineno, "purity", f"{module.room} is pure and may not call {called(node)}()")


def _is_global(node: ast.Call) -> bool:
    """Whether a call is of a builtin or of a class of datetime or uuid, not of a method that shares the name."""
    owner, _, _ = dotted(node.func).rpartition(".")
    return isinstance(node.func, ast.Name) or owner.split(".")[-1] in ("datetime", "date", "uuid", "builtins")


def speech(house: House) -> Iterator[Finding]:
    """Only the command line prints; it reads the environment, and so do the few of READ_ENVIRONMENT."""
    for module in house.modules.values():
        if module.room == "cli":
            continue
        reads = module.name in READ_ENVIRONMENT
        for one in module.imports:
            if not reads and one.target == "os" and one.name in ("environ", "environb", "getenv"):
                yield module.finding(one.line, "speech", f"os.{one.name} is read in cli only")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and dotted(node.func) == "print":
                yield module.finding(node.lineno, "speech", "print() is called in cli only")
            elif (
                not reads
                and isinstance(node, ast.Attribute)
                and dotted(node) in ("os.environ", "os.environb", "os.getenv")
            ):
                yield module.finding(node.lineno, "speech", f"{dotted(node)} is read in cli only")


def sizes(house: House) -> Iterator[Finding]:
    """Modules and functions stay small enough to be read at once."""
    for module in [*house.modules.values(), *house.tools]:
        most = LISTS.get(module.name, MODULE_LINES_MAX)
        if module.lines > most:
            yield module.finding(module.lines, "sizes", f"{module.lines} lines, at most {most}")
        for node in _functions(module):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                text = f"{node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"
                yield module.finding(node.lineno, "sizes", text)


def _functions(module: Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(module.tree) if isinstance(node, Function)]


def inits(house: House) -> Iterator[Finding]:
    """Every room has an `__init__.py` that holds its docstring and nothing else; `cli` adds `main`."""
    folders = {parent.as_posix() for module in house.modules.values() for parent in Path(module.path).parents}
    for folder in sorted(folders - {TOP, "."}):
        module = house.modules.get(folder.replace("/", "."))
        path = f"{folder}/__init__.py"
        if module is None or not module.is_init:
            if not (house.root / path).exists():  # else it does not parse, which `syntax` says
                yield Finding(path, 1, "inits", "missing; it says what lives here and where to read first")
            continue
        if not ast.get_docstring(module.tree):
            yield Finding(path, 1, "inits", "needs a docstring: what lives here and where to read first")
        for node in module.tree.body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            entry = isinstance(node, ast.Import | ast.ImportFrom) or getattr(node, "name", "") == "main"
            if not (docstring or (entry and folder == f"{TOP}/cli")):
                yield Finding(path, node.lineno, "inits", "holds more than a docstring")


def startup(house: House) -> Iterator[Finding]:
    """Importing the command line loads nothing slow."""
    cli = house.modules.get("casckpt.cli")
    if cli is None or not any(part.name == "main" for part in (*cli.imports, *_functions(cli))):
        return
    command = [sys.executable, "-B", "-X", "importtime", "-c", "import casckpt.cli"]
    environ = {**os.environ, "PYTHONPATH": str(house.root)}
    done = subprocess.run(command, cwd=house.root, env=environ, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    if done.returncode:
        yield cli.finding(1, "startup", f"import casckpt.cli fails: {lines[-1] if lines else done.returncode}")
    # A line is printed when an import ends, so the importer of a line is the next one with less indentation.
    loaded = [(len(text) - len(text.lstrip()), text.strip()) for text in (line.rpartition("|")[2] for line in lines)]
    for number, (depth, name) in enumerate(loaded):
        if name in SLOW_AT_START:
            above = (who for deep, who in loaded[number + 1 :] if deep < depth and who in house.modules)
            importer = house.modules[next(above, cli.name)]
            line = next((one.line for one in importer.imports if one.target.split(".")[0] == name), 1)
            yield importer.finding(line, "startup", f"import casckpt.cli loads {name} through {importer.name}")


def links(house: House) -> Iterator[Finding]:
    """Every relative link of the documentation leads somewhere."""
    for page in [house.root / "README.md", *sorted((house.root / "docs").rglob("*.md"))]:
        if page.is_file():
            for line, text in dead_links(page):
                yield Finding(page.relative_to(house.root).as_posix(), line, "links", text)


Rule = Callable[[House], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    syntax,
    exhaustive,
    floors,
    values,
    cycles,
    underscores,
    doors,
    purity,
    speech,
    sizes,
    inits,
    startup,
    links,
)


def check(root: Path) -> list[Finding]:
    """Every finding of every rule in a checkout, in order of place; an empty list if the house stands."""
    house = read(root)
    return sorted({finding for rule in RULES for finding in rule(house)})
