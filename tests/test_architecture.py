"""The house rules: who may import whom, how long things may be, and what the package exports."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

import foredraft

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "foredraft"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

GROUND = {
    *("core", "costs", "doors", "errors", "escape", "files", "logits", "ownership", "ranges"),
    *("registry", "version"),
}
ROOMS = {"models", "sampling", "drafting", "gamma", "verification", "tracing"}
BELOW_ENGINE = GROUND | ROOMS | {"config", "template", "text", "decoding"}
FRONT_ENDS = {"cli", "server"}
MAY_IMPORT = {
    "core": set[str](),
    "costs": {"core"},
    "doors": {"errors", "ranges"},
    "errors": set[str](),
    "escape": set[str](),
    "files": {"errors"},
    "logits": {"errors"},
    "ownership": {"errors"},
    "plugins": {"errors"},
    "version": set[str](),
    "ranges": {"errors"},
    "registry": {"errors", "ranges"},
    "template": GROUND,
    "text": GROUND | {"template"},
    "config": GROUND | {"sampling", "gamma", "verification", "drafting"},  # to check specs
    "models": GROUND | {"zoo"},
    "sampling": GROUND,
    "gamma": GROUND,
    "verification": GROUND,
    "tracing": GROUND,
    "drafting": GROUND | {"models", "sampling", "gamma"},
    "decoding": GROUND | ROOMS,
    "assembly": BELOW_ENGINE,
    "generation": BELOW_ENGINE,
    "engine": BELOW_ENGINE | {"assembly", "generation"},
    "adapters": GROUND | {"models"},
    "inputs": BELOW_ENGINE | {"adapters"},
    "functional": BELOW_ENGINE | {"inputs"},
    "seq2seq": BELOW_ENGINE | {"functional", "inputs"},
    "zoo": GROUND | ROOMS | {"decoding"},
    "checks": BELOW_ENGINE | {"engine"},
    "bench": BELOW_ENGINE | {"engine", "plugins", "zoo"},
    **{name: BELOW_ENGINE | {"engine", "plugins", "zoo", "checks", "bench"} for name in FRONT_ENDS},
    "__main__": {"cli"},
    "exports": BELOW_ENGINE | {"engine", "functional", "seq2seq"},
    "__init__": {"exports", "version"},
}


def name_of(path: Path) -> str:
    """Return `foredraft.models.cache` for its file, and the package's name for an `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> list[tuple[str, str]]:
    """Return (module, name) of every import in a file, also of those inside functions."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            found += [(_submodule(module, alias.name), alias.name) for alias in node.names]
    return found


def _submodule(module: str, name: str) -> str:
    """Return `foredraft.zoo` for `from foredraft import zoo`."""
    inside = ROOT.joinpath(*module.split("."), name)
    is_module = inside.is_dir() or inside.with_suffix(".py").is_file()
    return f"{module}.{name}" if module.startswith("foredraft") and is_module else module


def own_imports(path: Path) -> set[str]:
    return {m for m, _ in imports_of(path) if m == "foredraft" or m.startswith("foredraft.")}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    room = room_of(name_of(path))
    legal = MAY_IMPORT[room] | {room}
    assert {room_of(module) for module in own_imports(path)} <= legal


def known_as(path: Path) -> str:
    """Return the name by which others import a file: scripts in benchmarks have no package."""
    return path.stem if path.parent == ROOT / "benchmarks" else name_of(path)


def test_no_module_imports_itself_in_a_circle() -> None:
    rooms = ("foredraft", "benchmarks", "docs", "tests", "examples")
    files = {known_as(path): path for room in rooms for path in (ROOT / room).rglob("*.py")}
    graph = {
        name: {
            known
            for module, part in imports_of(path)
            # `from docs.site import measured` imports a module, `from tests.tiny import build` none
            for known in (f"{module}.{part}", module)
            if known in files and known != name
        }
        for name, path in files.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_the_models_know_of_the_zoo_only_where_it_stands() -> None:
    for path in (PACKAGE / "models").glob("*.py"):
        from_zoo = {m for m in own_imports(path) if room_of(m) == "zoo"}
        assert from_zoo <= ({"foredraft.zoo"} if path.name == "loading.py" else set())
    assert own_imports(PACKAGE / "zoo" / "__init__.py") == set()


@pytest.mark.parametrize("room", ["decoding", "drafting"])
def test_loops_and_drafters_know_other_rooms_by_their_interfaces(room: str) -> None:
    interfaces = {f"foredraft.{other}.base" for other in ROOMS} | {"foredraft.sampling.rng"}
    for path in (PACKAGE / room).glob("*.py"):
        others = {m for m in own_imports(path) if room_of(m) not in GROUND | {room}}
        assert others <= interfaces, path.name


def test_only_one_file_touches_a_transformers_cache() -> None:
    touching = {
        name_of(path)
        for path in MODULES
        for module, name in imports_of(path)
        if module.startswith("transformers.cache_utils")
        or (module.startswith("transformers") and name.endswith("Cache"))
    }
    assert touching == {"foredraft.models.cache"}


@pytest.mark.parametrize("room", ["gamma", "verification", "core", "decoding"])
def test_the_mathematics_knows_no_transformers(room: str) -> None:
    files = [*(PACKAGE / room).glob("*.py"), *PACKAGE.glob(f"{room}.py")]
    assert files
    for path in files:
        assert not any(
            m.split(".")[0] in ("transformers", "tokenizers") for m, _ in imports_of(path)
        )


def functions() -> Iterator[tuple[str, int]]:
    """Yield the name and the length in lines of every function of the package."""
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{name_of(path)}.{node.name}", node.end_lineno - node.lineno + 1


def test_no_function_is_longer_than_sixty_lines() -> None:
    assert [(name, length) for name, length in functions() if length > 60] == []


def test_nine_functions_in_ten_are_short_and_half_of_them_very_short() -> None:
    lengths = [length for _, length in functions()]
    assert len(lengths) > 100
    assert median(lengths) <= 10
    assert quantiles(lengths, n=10)[-1] <= 30


@pytest.mark.parametrize("path", MODULES + TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_has_a_purpose_and_a_sane_length(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 350
    docstring = ast.get_docstring(tree_of(path))
    assert docstring is not None
    assert 10 <= len(docstring.splitlines()[0]) <= 100


def test_there_is_no_room_for_odds_and_ends() -> None:
    names = {part for path in MODULES for part in name_of(path).split(".")}
    assert names.isdisjoint({"util", "utils", "helper", "helpers", "misc", "common"})


def test_rooms_are_two_levels_deep_at_most() -> None:
    assert max(len(path.relative_to(PACKAGE).parts) for path in MODULES) == 2


def test_exports_are_sorted_and_resolve() -> None:
    assert list(foredraft.__all__) == sorted(set(foredraft.__all__))
    for name in foredraft.__all__:
        assert getattr(foredraft, name) is not None


def test_whatever_the_package_imports_at_its_door_is_exported() -> None:
    bound = {
        alias.asname or alias.name
        for node in tree_of(PACKAGE / "exports.py").body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert bound == set(foredraft.__all__) <= set(dir(foredraft))
