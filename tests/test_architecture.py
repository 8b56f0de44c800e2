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
ROOMS_BESIDE = ("benchmarks", "docs", "scripts")
SCRIPTS = sorted(path for room in ROOMS_BESIDE for path in (ROOT / room).rglob("*.py"))

GROUND = {
    *("arms", "cache", "chances", "choices", "core", "costs", "curves", "doors", "errors"),
    *("escape", "files", "logits", "ownership", "phases", "ranges", "registry", "spelling"),
    *("threads", "translation", "version"),
}
ROOMS = {"models", "sampling", "drafting", "gamma", "verification", "tracing"}
BELOW_ENGINE = GROUND | ROOMS
BELOW_ENGINE |= {"native", "loading", "config", "template", "text", "stops", "decoding", "method"}
# `auto` decides who drafts and how much at once, so that it has a length rule of its own; what is
# copied and counted has compiled twins. A draft model with another tokenizer is another network.
WHERE_ROOMS_MEET = {
    "auto.py": {f"foredraft.gamma.{name}" for name in ("cost_aware", "fixed", "within")},
    "ngram_storage.py": {"foredraft.native.retrieval"},
    "suffix.py": {"foredraft.native.retrieval"},
    "translated.py": {"foredraft.models.head", "foredraft.models.translated"},
    "head.py": {
        "foredraft.models.head",
        "foredraft.models.features",
    },  # it tells the one of the other
}
FRONT_ENDS = {"cli": {"server"}, "server": set[str]()}  # `foredraft serve` starts a server
MAY_IMPORT = {
    "arms": {"core", "costs", "curves"},
    "cache": {"files"},
    "chances": set[str](),
    "choices": set[str](),
    "core": {"choices"},
    "costs": {"chances", "core", "curves"},
    "curves": set[str](),
    "doors": {"errors", "ranges"},
    "errors": set[str](),
    "escape": set[str](),
    "files": {"errors"},
    "logits": {"errors"},
    "ownership": {"errors"},
    "phases": set[str](),
    "plugins": {"errors", "registry"},
    "version": set[str](),
    "ranges": {"errors"},
    "registry": {"errors", "ranges"},
    "threads": {"errors", "ownership"},
    "spelling": {"errors"},
    "translation": {"spelling"},
    "template": GROUND | {"template_bounds"},
    "template_bounds": set(),
    "text": GROUND | {"template"},
    "stops": GROUND | {"text"},
    "config": GROUND | {"sampling", "gamma", "verification", "drafting"},  # to check specs
    "models": GROUND,
    "native": GROUND | {"models"},
    "loading": GROUND | {"models", "native", "zoo"},
    "sampling": GROUND | {"native"},  # logits that are sampled in C
    "gamma": GROUND,
    "verification": GROUND,
    "tracing": GROUND,
    "drafting": GROUND | {"models", "native", "sampling", "gamma"},  # what is looked up in C
    "decoding": GROUND | ROOMS,
    "results": BELOW_ENGINE | {"generation"},
    "method": GROUND | {"config", "sampling", "gamma", "verification", "drafting"},
    "assembly": BELOW_ENGINE,
    "generation": BELOW_ENGINE,
    "conversation": BELOW_ENGINE | {"assembly", "generation"},
    "engine": BELOW_ENGINE | {"assembly", "conversation", "generation", "results"},
    "adapters": GROUND | {"models", "native", "loading"},
    "inputs": BELOW_ENGINE | {"adapters"},
    "functional": BELOW_ENGINE | {"inputs"},
    "seq2seq": BELOW_ENGINE | {"functional", "inputs"},
    "zoo": GROUND | ROOMS | {"loading", "decoding", "text"},
    "integrations": GROUND | ROOMS | {"config", "method"},  # leaves: an engine loads them by name
    "checks": BELOW_ENGINE | {"engine"},
    "bench": BELOW_ENGINE | {"engine", "plugins", "zoo"},
    **{
        name: BELOW_ENGINE
        | {"generation", "conversation", "engine", "results", "plugins", "zoo", "checks", "bench"}
        | others
        for name, others in FRONT_ENDS.items()
    },
    "__main__": {"cli"},
    "exports": BELOW_ENGINE | {"conversation", "engine", "functional", "seq2seq"},
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


def test_loading_knows_of_the_zoo_only_where_it_stands() -> None:
    for path in (PACKAGE / "loading").glob("*.py"):
        from_zoo = {m for m in own_imports(path) if room_of(m) == "zoo"}
        assert from_zoo <= ({"foredraft.zoo"} if path.name == "loader.py" else set())
    assert own_imports(PACKAGE / "zoo" / "__init__.py") == set()


@pytest.mark.parametrize("room", ["decoding", "drafting"])
def test_loops_and_drafters_know_other_rooms_by_their_interfaces(room: str) -> None:
    rooms = {f"foredraft.{other}.base" for other in ROOMS}
    interfaces = rooms | {"foredraft.sampling.controls", "foredraft.sampling.rng"}
    for path in (PACKAGE / room).glob("*.py"):
        others = {m for m in own_imports(path) if room_of(m) not in GROUND | {room}}
        assert others <= interfaces | WHERE_ROOMS_MEET.get(path.name, set()), path.name


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


PARTS = {"SAMPLERS", "VERIFIERS", "DRAFTERS", "GAMMA_POLICIES"}


def test_spec_strings_are_parsed_at_one_door() -> None:
    """Behind the config, which refuses what cannot be read, and the method nothing is text."""
    parsing = {
        room_of(name_of(path))
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("create")
        and isinstance(node.value, ast.Name)
        and node.value.id in PARTS
    }
    assert parsing == {"config", "method", "cli"}, "`/processor nucleus 0.8 0.9` is words, no spec"


def test_no_override_is_forced() -> None:
    forced = "ignore[" + "override]"
    assert [path for path in MODULES + TESTS if forced in path.read_text(encoding="utf-8")] == []


def constants() -> Iterator[tuple[str, str, str]]:
    """Yield room, name and value of every constant at the top of a file."""
    for path in MODULES:
        for node in tree_of(path).body:
            for target in node.targets if isinstance(node, ast.Assign) else []:
                if isinstance(target, ast.Name) and target.id.isupper():
                    yield room_of(name_of(path)), target.id, ast.unparse(node.value)


def test_a_constant_has_one_value_in_its_room() -> None:
    values: dict[tuple[str, str], set[str]] = {}
    for room, name, value in constants():
        values.setdefault((room, name), set()).add(value)
    assert len(values) > 100
    assert {place: found for place, found in values.items() if len(found) > 1} == {}


def test_types_say_what_they_are() -> None:
    unsaid = [
        name_of(path)
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    assert len(unsaid) <= 40


DEEPER = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.Match)
BRANCHES = (ast.For, ast.While, ast.If, ast.IfExp, ast.ExceptHandler, ast.match_case)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def nesting(node: ast.AST, depth: int = 0) -> int:
    """Return how deep blocks stand in one another below a node; an `elif` is no deeper one."""
    deepest = depth
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, (*FUNCTIONS, ast.ClassDef)):
                is_elif = field == "orelse" and isinstance(node, ast.If) and len(value) == 1
                deeper = isinstance(child, DEEPER) and not (is_elif and isinstance(child, ast.If))
                deepest = max(deepest, nesting(child, depth + deeper))
    return deepest


def num_branches(function: ast.AST) -> int:
    """Return how many statements and conditional expressions leave the straight line."""
    return sum(isinstance(node, BRANCHES) for node in ast.walk(function))


def test_no_function_is_deep_or_has_many_branches() -> None:
    written = [
        (f"{name_of(path)}.{node.name}", nesting(node), num_branches(node))
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, FUNCTIONS)
    ]
    assert [one for one in written if one[1] > 3] == []
    assert [one for one in written if one[2] > 12] == []


def test_nine_functions_in_ten_are_short_and_half_of_them_very_short() -> None:
    lengths = [length for _, length in functions()]
    assert len(lengths) > 100
    assert median(lengths) <= 10
    assert quantiles(lengths, n=10)[-1] <= 30


@pytest.mark.parametrize(
    "path", MODULES + TESTS + SCRIPTS, ids=lambda path: str(path.relative_to(ROOT))
)
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
