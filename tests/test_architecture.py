"""The house stands as it was drawn: arrows point down, nothing goes round, nothing grows without bound.

Read from the sources themselves, so that an import inside a function or under TYPE_CHECKING counts like any other.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SOURCE_ROOTS = (ROOT / "bench", ROOT / "broker", ROOT / "sdk")
SOURCE_LINES_MAX = 700

FLOORS = {
    "hubbub_protocol": 0,
    "hubbub_broker": 1,  # its leaves: every module that is not named below
    "hubbub_broker.access": 2,
    "hubbub_broker.log": 2,
    "hubbub_broker.guard": 2,
    "hubbub_broker.schema": 2,
    "hubbub_broker.shard": 3,
    "hubbub_broker.consumers": 4,
    "hubbub_broker.peers": 4,
    "hubbub_broker.state": 4,
    "hubbub_broker.bus": 5,
    "hubbub_broker.rules": 5,
    "hubbub_broker.session": 6,
    "hubbub_broker.http": 6,
    "hubbub_broker.broker": 7,
    "hubbub_broker.answering": 7,
    "hubbub_broker.door": 7,
    "hubbub_broker.bus_door": 7,
    "hubbub_broker.operator_door": 7,
    "hubbub_broker.rules_door": 7,
    "hubbub_broker.state_door": 7,
    "hubbub_broker.watch": 7,
    "hubbub_broker.watch_metrics": 7,
    "hubbub_broker.server": 7,
    "hubbub_broker.workers": 7,
    "hubbub_broker.cli": 8,
    "hubbub_broker.__main__": 8,
}
"""Which floor a module is on, by its longest prefix here. Packages of one floor don't know each other."""

COMPOSITION = {
    "hubbub_broker.answering",
    "hubbub_broker.broker",
    "hubbub_broker.bus_door",
    "hubbub_broker.door",
    "hubbub_broker.operator_door",
    "hubbub_broker.rules_door",
    "hubbub_broker.server",
    "hubbub_broker.state_door",
    "hubbub_broker.watch",
    "hubbub_broker.watch_metrics",
    "hubbub_broker.workers",
}
"""Floor 7 is one process, put together in a few files that do know each other."""

MAY_USE = {
    "hubbub_protocol": set[str](),
    "hubbub": {"hubbub_protocol"},
    "hubbub_control": {"hubbub", "hubbub_protocol"},
    "hubbub_broker": {"hubbub_protocol"},
    "hubbub_bench": {"hubbub", "hubbub_broker", "hubbub_protocol"},
}
"""Which packages of ours each package may import. `hubbub_broker.cli` may import the SDK, the control plane and the
harness too: it puts all together."""

IMPURE = {"asyncio", "http", "os", "random", "secrets", "selectors", "socket", "ssl", "subprocess", "threading", "time"}


@dataclass(frozen=True)
class Import:
    """One import of a module of ours, or of another package."""

    target: str
    line: int
    runtime: bool
    """Whether it happens when the importing module is loaded: not in a function, not for type checkers only."""


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Every module under the source roots, by its full name."""
    return {module_name(path, root): path for root in SOURCE_ROOTS for path in sorted(root.rglob("*.py"))}


@cache
def imports(name: str) -> tuple[Import, ...]:
    path = modules()[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return tuple(walk(ast.parse(path.read_text(encoding="utf-8")), package, runtime=True))


def walk(node: ast.AST, package: str, *, runtime: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, runtime)
        elif isinstance(child, ast.ImportFrom):
            base = resolve(child, package)
            for alias in child.names:
                inner = f"{base}.{alias.name}"
                yield Import(inner if inner in modules() else base, child.lineno, runtime)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from walk(ast.Module([part], []), package, runtime=False)
            for part in child.orelse:
                yield from walk(ast.Module([part], []), package, runtime=runtime)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, package, runtime=runtime and not inside)


def resolve(node: ast.ImportFrom, package: str) -> str:
    """The absolute name of what `from ... import` reads from."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def top(name: str) -> str:
    return name.partition(".")[0]


def floor_key(name: str) -> str:
    """The entry of `FLOORS` that a module belongs to."""
    return max((key for key in FLOORS if name == key or name.startswith(key + ".")), key=len)


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """One cycle for each place where a depth-first walk meets its own path."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in sorted(graph[name]):
                visit(target, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def test_the_reader_of_imports_sees_all_forms() -> None:
    source = """
import asyncio
from . import errors
from .names import is_topic
from hubbub_protocol.codec import encode
if TYPE_CHECKING:
    from hubbub_protocol import frames
def late():
    import hubbub_protocol.limits
"""
    found = [(one.target, one.runtime) for one in walk(ast.parse(source), "hubbub_protocol", runtime=True)]
    assert found == [
        ("asyncio", True),
        ("hubbub_protocol.errors", True),
        ("hubbub_protocol.names", True),
        ("hubbub_protocol.codec", True),
        ("hubbub_protocol.frames", False),
        ("hubbub_protocol.limits", False),
    ]
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_all_packages_are_there() -> None:
    assert {"hubbub", "hubbub_broker", "hubbub_control", "hubbub_protocol"} <= {top(name) for name in modules()}
    for name in FLOORS:
        assert name in modules(), f"{name} is gone: take it out of FLOORS"


def test_packages_use_only_the_packages_below_them() -> None:
    wrong = []
    for name in modules():
        allowed = MAY_USE[top(name)] | {top(name)}
        if name == "hubbub_broker.cli" or name.startswith("hubbub_broker.cli."):
            allowed = allowed | {"hubbub", "hubbub_bench", "hubbub_control"}
        wrong += [
            f"{name}:{one.line} imports {one.target}"
            for one in imports(name)
            if top(one.target) in MAY_USE and top(one.target) not in allowed
        ]
    assert not wrong


def test_arrows_point_down_inside_the_broker() -> None:
    wrong = []
    for name in modules():
        if top(name) != "hubbub_broker" or name == "hubbub_broker":
            continue
        own = floor_key(name)
        for one in imports(name):
            if top(one.target) not in ("hubbub_broker", "hubbub_protocol"):
                continue
            other = floor_key(one.target)
            alike = (
                other == own
                or {own, other} <= COMPOSITION
                or (FLOORS[own] == FLOORS[other] == FLOORS["hubbub_broker.cli"])
            )
            if FLOORS[other] > FLOORS[own] or (FLOORS[other] == FLOORS[own] and not alike):
                wrong.append(f"{name}:{one.line} (floor {FLOORS[own]}) imports {one.target} (floor {FLOORS[other]})")
    assert not wrong


def test_no_module_needs_itself() -> None:
    graph = {
        name: {one.target for one in imports(name) if one.runtime and one.target in modules()} for name in modules()
    }
    assert not [" -> ".join(cycle) for cycle in cycles(graph)]


def test_the_protocol_is_pure() -> None:
    wrong = [
        f"{name}:{one.line} imports {one.target}"
        for name in modules()
        if top(name) == "hubbub_protocol"
        for one in imports(name)
        if top(one.target) in IMPURE
    ]
    assert not wrong


def test_sources_import_nothing_of_the_tests() -> None:
    apart = {"bench", "conftest", "harness", "hypothesis", "pytest", "tests"}
    wrong = [f"{name}:{one.line}" for name in modules() for one in imports(name) if top(one.target) in apart]
    assert not wrong


HEAVY = ("fastapi", "hubbub_broker", "prometheus_client", "pydantic", "rich", "starlette", "typer", "uvicorn", "uvloop")


@pytest.mark.parametrize(
    ("package", "unwanted"),
    [
        ("hubbub", HEAVY),
        ("hubbub_protocol", (*HEAVY, "asyncio", "hubbub", "socket", "websockets")),
        ("hubbub_broker.cli", ("fastapi", "hubbub", "pydantic", "uvicorn", "websockets")),
    ],
)
def test_importing_a_package_loads_little(package: str, unwanted: tuple[str, ...]) -> None:
    code = f"import {package}, sys; print(*(name for name in {unwanted!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_packages_are_typed_and_are_packages() -> None:
    for root in SOURCE_ROOTS:
        for package in (path for path in root.iterdir() if path.is_dir() and any(path.glob("*.py"))):
            assert (package / "py.typed").is_file(), f"{package.name} has no py.typed"
            for folder in {path.parent for path in package.rglob("*.py")}:
                assert (folder / "__init__.py").is_file(), f"{folder.relative_to(root)} has no __init__.py"


def test_no_source_file_grows_beyond_a_long_read() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > SOURCE_LINES_MAX} == {}


# What must not be in any file ---------------------------------------------------------------------------------------

NOT_OURS = {".git", ".venv", "build", "dist", "node_modules"}
LEFTOVERS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"]) + r")\b")
SOMEBODYS_FOLDER = re.compile(r"(?<![\w.$~)}*>-])/(?:work(?:space)?s?|home|root|Users)/[\w.-]+")
MERGE_MARKS = re.compile(r"^(?:<{7}|>{7}|={7})(?: |$)", re.MULTILINE)


@cache
def tracked() -> tuple[Path, ...]:
    """The files of the project: what git tracks or would; without git, whatever is not set-up or built."""
    if (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, check=True, timeout=50).stdout.decode()
        return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())
    inner = (path for path in ROOT.rglob("*") if path.is_file())
    return tuple(
        path
        for path in inner
        if not any(part in NOT_OURS or part.endswith(("_cache", "__")) for part in path.relative_to(ROOT).parts)
        and not path.relative_to(ROOT).parts[0].startswith((".run", ".hypothesis"))
    )


@cache
def texts() -> dict[str, str]:
    found = {}
    for path in tracked():
        try:
            found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
    return found


def found_in_files(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {hit.group()}"
        for name, text in texts().items()
        for hit in pattern.finditer(text)
    ]


def test_nothing_is_left_for_later() -> None:
    assert "pyproject.toml" in texts()
    assert "sdk/hubbub_protocol/names.py" in texts()
    assert found_in_files(LEFTOVERS) == []
    assert found_in_files(MERGE_MARKS) == []


def test_no_file_names_somebodys_folder() -> None:
    assert found_in_files(SOMEBODYS_FOLDER) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see |home|joe|x", True),
        ("'|Users|joe'", True),
        ("(|root|x)", True),
        ("=|workspace|x", True),
        ("$(MAKE)|work|x", False),
        ("https:||example.org|home|x", False),
        ("a|root|b", False),
        ("|var|lib|hubbub", False),
        ("|home directory", False),
    ],
)
def test_the_search_for_folders_finds_them(text: str, found: bool) -> None:
    assert bool(SOMEBODYS_FOLDER.search(text.replace("|", "/"))) is found  # written so as not to be found itself


def test_text_files_end_with_a_newline_and_have_no_stray_white_space() -> None:
    checked = {name: text for name, text in texts().items() if not name.startswith("LICENSE")}
    assert [name for name, text in checked.items() if text and not text.endswith("\n")] == []
    assert [name for name, text in checked.items() if re.search(r"[ \t]+$", text, re.MULTILINE)] == []
    assert [name for name, text in checked.items() if "\r" in text] == []
