"""The house's rules, read from the syntax tree: who may import whom, where heavy libraries live, sizes and names.

The layers are those of docs/architecture.md. A module may import its own layer and those below; a lazy import inside
a function counts as well, since it is a dependency all the same.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "offbeat"

# Bottom first. `report` stands beside the layers: it reads run directories, and only the top shows what it made.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "types", "arms", "config", "config_parts", "timing", "machine", "shared_memory", "signals"}),
    frozenset({"env", "dry", "replay", "sampling", "sac", "robots", "tasks", "safety", "safety_limits"}),
    frozenset({"schedules"}),
    frozenset({"build"}),
    frozenset({"run", "directory", "checkpoint", "measure", "wall", "jobs"}),
    frozenset({"studies"}),
    frozenset({"demo", "doctor", "film", "progress"}),
    frozenset({"cli", "__main__"}),
)
REPORT_MAY_IMPORT = frozenset({"report", "errors", "types", "config", "config_parts", "timing"})
MAY_IMPORT_REPORT = frozenset({"report"}) | LAYERS[-2] | LAYERS[-1]

# Parts that must not know of each other: the agent knows no robot, the robot no agent, and schedules know only the
# protocols they declare themselves.
STRANGERS = (
    ("sac", frozenset({"env", "dry", "robots", "tasks", "safety", "safety_limits"})),
    ("robots", frozenset({"env", "dry", "replay", "sac", "tasks", "safety", "safety_limits"})),
    ("tasks", frozenset({"env", "dry", "replay", "sac", "safety", "safety_limits"})),
    ("safety", frozenset({"env", "dry", "replay", "sac", "tasks"})),
    ("replay", frozenset({"env", "dry", "robots", "sac", "tasks", "safety", "safety_limits"})),
    ("env", frozenset({"dry", "replay", "sac"})),
    ("schedules", frozenset({"env", "dry", "replay", "robots", "sac", "tasks", "safety", "safety_limits"})),
)

# Where a heavy or optional library may be imported when a module loads; elsewhere only inside the function using it.
HOMES: dict[str, tuple[str, ...]] = {
    "torch": ("sac", "checkpoint"),
    "mujoco": ("robots",),
    "cv2": ("robots", "tasks", "env", "film"),
    "matplotlib": ("report.figures",),
    "PIL": ("film",),
    "tyro": ("cli",),
    "rich": ("cli", "demo", "doctor", "progress", "studies.show"),
    "gymnasium": ("", "env", "dry"),
}
MAX_LINES = 350
# The paper means two things by the one and Gymnasium two things by the other.
AMBIGUOUS = frozenset({"alpha", "done"})


@dataclass(frozen=True)
class Import:
    """One import statement: the importing and the imported module, and whether it runs when the module loads."""

    source: str
    target: str
    line: int
    at_load: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def module_name(path: Path) -> str:
    """`offbeat.sac.losses` for src/offbeat/sac/losses.py."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources() -> dict[str, tuple[Path, ast.Module]]:
    """Every module of the package: its path and its syntax tree."""
    return {module_name(path): (path, ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))}


def part_of(module: str) -> str:
    """The box of the house a module belongs to: `sac` for offbeat.sac.losses, "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def walk(node: ast.AST, at_load: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """Import statements below a node, and whether they run when the module loads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_load
        else:
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from walk(child, at_load and not lazy and not typing_only)


def imported_modules(module: str, path: Path, statement: ast.stmt) -> Iterator[str]:
    """Absolute names of what a statement imports; of a package's members, the submodules by their own name."""
    if isinstance(statement, ast.Import):
        yield from (name.name for name in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        prefix = package[: len(package) - statement.level + 1] if statement.level else []
        base = ".".join([*prefix, *([statement.module] if statement.module else [])])
        for name in statement.names:
            member = f"{base}.{name.name}"
            yield member if member in sources() else base


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the package."""
    return tuple(
        Import(module, target, statement.lineno, at_load)
        for module, (path, tree) in sources().items()
        for statement, at_load in walk(tree)
        for target in imported_modules(module, path, statement)
    )


def internal() -> list[Import]:
    """Imports of one part of the house by another part."""
    return [
        i for i in imports() if i.target.split(".")[0] == "offbeat" and part_of(i.target) not in ("", part_of(i.source))
    ]


def layer(part: str) -> int:
    """Number of a part's layer, counted from the bottom."""
    return next((number for number, parts in enumerate(LAYERS) if part in parts), len(LAYERS))


def test_every_module_has_its_place() -> None:
    known = frozenset().union(*LAYERS) | {"report", ""}
    homeless = sorted({part_of(module) for module in sources()} - known)
    assert not homeless, f"Give {homeless} a layer here and in docs/architecture.md."


def test_the_package_itself_imports_no_part() -> None:
    assert [str(i) for i in internal() if i.source == "offbeat"] == []


def test_imports_point_down() -> None:
    layered = [
        i for i in internal() if i.source != "offbeat" and "report" not in (part_of(i.source), part_of(i.target))
    ]
    assert layered, "found no imports at all: the test looks in the wrong place"
    assert [str(i) for i in layered if layer(part_of(i.target)) > layer(part_of(i.source))] == []


def test_strangers_stay_strangers() -> None:
    wrong = [
        str(i)
        for i in internal()
        for part, strange in STRANGERS
        if part_of(i.source) == part and part_of(i.target) in strange
    ]
    # The arm's published numbers are data, which safety needs and no robot's driver comes with.
    assert [line for line in wrong if "offbeat.robots.models" not in line] == []


def test_report_imports_nothing_that_trains() -> None:
    of_report = [i for i in internal() if part_of(i.source) == "report"]
    assert [str(i) for i in of_report if part_of(i.target) not in REPORT_MAY_IMPORT] == []
    to_report = [i for i in internal() if part_of(i.target) == "report"]
    assert [str(i) for i in to_report if part_of(i.source) not in MAY_IMPORT_REPORT] == []


def test_modules_load_in_one_order() -> None:
    graph: dict[str, set[str]] = {module: set() for module in sources()}
    for i in imports():
        if i.at_load and i.target in graph and i.target != i.source:
            graph[i.source].add(i.target)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("library", sorted(HOMES))
def test_heavy_libraries_stay_at_home(library: str) -> None:
    homes = {".".join(filter(None, ("offbeat", home))) for home in HOMES[library]}

    def at_home(module: str) -> bool:
        return any(module == home or (home != "offbeat" and module.startswith(f"{home}.")) for home in homes)

    strays = [str(i) for i in imports() if i.at_load and i.target.split(".")[0] == library and not at_home(i.source)]
    assert strays == []


@pytest.mark.parametrize("module", ["offbeat", "offbeat.config", "offbeat.report", "offbeat.cli"])
def test_what_is_light_stays_light(module: str) -> None:
    heavy = {"torch", "mujoco", "cv2", "matplotlib"}
    code = f"import sys, json, {module}; print(json.dumps(sorted({heavy!r} & set(sys.modules))))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == []


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "examples"])
def test_files_stay_short(folder: str) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_ambiguous_names_are_not_given() -> None:
    given = [
        f"{module}:{node.lineno} {name}"
        for module, (_, tree) in sources().items()
        for node in ast.walk(tree)
        for name in [getattr(node, "arg", None) if isinstance(node, ast.arg) else getattr(node, "id", None)]
        if name in AMBIGUOUS and isinstance(node, ast.arg | ast.Name)
    ]
    assert given == []


def test_the_environment_is_registered_by_name() -> None:
    import gymnasium

    import offbeat

    spec = gymnasium.spec("offbeat/VisualReacher-v0")
    assert spec.entry_point == "offbeat.env:make_env"
    assert spec.max_episode_steps is None
    assert offbeat.__version__.count(".") == 2
