"""The walls between the packages, and rules that the text of the code must keep. Nothing is run but Python's parser."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from replay.config import ReplayConfig
from replay.experience import EnvSpec, Step

ROOT = Path(__file__).parents[1]
PACKAGES = ("dreamer", "replay", "actors", "learner", "cluster")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CONFIGS = sorted(path for path in FILES if path.name == "config.py")

ONLY_IN = {  # library -> the files or packages that may import it
    "ray": "cluster/on_ray/",
    "reverb": "replay/reverb_",
    "tensorflow": "replay/reverb_",
    "tree": "replay/reverb_",
    "gymnasium": ("actors/game.py", "actors/opening.py"),
    "ale_py": "actors/game.py",
    "cv2": "actors/screen.py",
    "prometheus_client": "cluster/metrics/",
    "aiohttp": "cluster/play/server.py",
    "onnx": "cluster/play/onnx_file.py",
}
MAY_IMPORT_OF_OURS = {
    "dreamer": {"dreamer"},
    "replay": {"replay"},
    "actors": {"actors", "dreamer", "replay"},
    "learner": {"learner", "dreamer", "replay"},
    "cluster": set(PACKAGES),
}
FLOORS = (  # of cluster/, from the bottom up: a room or a file imports from lower floors only
    {"config", "console", "errors", "every", "messages", "trouble"},
    {"look", "metrics", "presets", "short_games"},
    {"play", "run"},
    {"assemble", "training"},
    {"saving"},
    {"__init__", "bench", "dream", "inline", "on_ray"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
MAY_IMPORT_OF_OTHERS = {  # the two packages that others may want to take with them
    "dreamer": {"torch"},
    "replay": {"numpy", "torch", "reverb", "tensorflow", "tree"},
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(tree: ast.AST) -> set[str]:
    """Top-level names of everything imported, inside functions too."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names |= {alias.name.partition(".")[0] for alias in node.names}
            case ast.ImportFrom(level=0, module=str(module)):
                names.add(module.partition(".")[0])
    return names


def modules(tree: ast.AST) -> set[str]:
    """Whole names of everything imported, inside functions too; of `from a import b` both a and a.b."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(level=0, module=str(module)):
                names |= {f"{module}.{alias.name}" for alias in node.names}
                names |= set() if (ROOT / module.replace(".", "/")).is_dir() else {module}
    return names


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room(module: str) -> str:
    """`run` of cluster.run.directory, `cli` of cluster.cli."""
    return module.split(".")[1]


def relative_imports(tree: ast.AST) -> list[int]:
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


def files_of(package: str) -> list[Path]:
    return [path for path in FILES if path.relative_to(ROOT).parts[0] == package]


# --- imports ---------------------------------------------------------------------------------------------------------


def test_imports_are_found_wherever_they_hide() -> None:
    text = "import a.b\nfrom c.d import e\ndef f():\n    import g as h\nif x:\n    from i import *\n"
    assert imports(ast.parse(text)) == {"a", "c", "g", "i"}
    assert relative_imports(ast.parse("from . import a\nfrom b import c\nfrom ..d import e")) == [1, 3]


def test_every_package_has_files() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)


def test_a_heavy_library_stays_behind_its_wall() -> None:
    wrong = [
        f"{name_of(path)} imports {library}: only {home} may"
        for path in FILES
        for library, home in ONLY_IN.items()
        if library in imports(parse(path)) and not name_of(path).startswith(home)
    ]
    assert not wrong, "\n".join(wrong)


def test_packages_of_ours_import_each_other_in_one_direction() -> None:
    wrong = [
        f"{name_of(path)} imports {other}"
        for package in PACKAGES
        for path in files_of(package)
        for other in (imports(parse(path)) & set(PACKAGES)) - MAY_IMPORT_OF_OURS[package]
    ]
    wrong += [f"{name_of(path)}, line {line}: relative" for path in FILES for line in relative_imports(parse(path))]
    assert not wrong, "\n".join(wrong)


def test_imports_inside_cluster_go_downwards() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    upwards = []
    for path in (ROOT / "cluster").rglob("*.py"):
        here = room(module_of(path))
        upwards += [
            f"{name_of(path)} (floor {floor[here]}) imports {module} (floor {floor[room(module)]})"
            for module in modules(parse(path))
            if module.startswith("cluster.") and room(module) != here and floor[room(module)] >= floor[here]
        ]
    assert not upwards, "\n".join(upwards)


def test_nothing_is_imported_in_a_circle() -> None:
    known = {module_of(path) for path in FILES}
    graph = {module_of(path): modules(parse(path)) & known - {module_of(path)} for path in FILES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES)  # raises CycleError, which names them


def test_algorithm_and_replay_import_few_libraries() -> None:
    wrong = [
        f"{name_of(path)} imports {other}"
        for package, others in MAY_IMPORT_OF_OTHERS.items()
        for path in files_of(package)
        for other in imports(parse(path)) - others - MAY_IMPORT_OF_OURS[package] - sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_replay_on_the_device_knows_torch() -> None:
    with_torch = {path.name for path in (ROOT / "replay").rglob("*.py") if "torch" in imports(parse(path))}
    assert with_torch <= {"device_backend.py"}


def test_configs_need_nothing_but_the_standard_library() -> None:
    for path in CONFIGS:
        others = imports(parse(path)) - sys.stdlib_module_names - set(PACKAGES)
        assert not others, name_of(path)


def test_algorithm_replay_and_learner_run_without_ray_reverb_and_tensorflow() -> None:
    modules = ["dreamer.agent", "replay", *(f"learner.{p.stem}" for p in (ROOT / "learner").glob("[a-z]*.py"))]
    heavy = ("ray", "reverb", "tensorflow", "gymnasium", "cv2")
    code = (
        "import importlib, sys\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        f"sys.exit(' '.join(name for name in {heavy!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- settings --------------------------------------------------------------------------------------------------------


def fields(path: Path) -> Iterator[tuple[str, str, ast.AnnAssign]]:
    """(class, field, node) of every setting of a config.py; the sections of the composed one are not settings."""
    for node in parse(path).body:
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and not ast.unparse(line.annotation).endswith("Config"):
                    yield node.name, ast.unparse(line.target), line


SETTINGS = [(path, *setting) for path in CONFIGS for setting in fields(path)]
SECTIONS = {"env", "actor", "replay", "model", "behavior", "train", "cluster"}
HOLDERS = {"config", "_config", "_cluster", "c"} | SECTIONS  # what a configuration is called where it is read


def reads(tree: ast.AST, *, checks: bool = True) -> set[str]:
    """Names read as `config.name`; `checks`: in functions called check... or ...rules... too."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if not checks and isinstance(node, ast.FunctionDef) and re.search(r"^check|rules", node.name):
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and last_name(node.value) in HOLDERS:
            found.add(node.attr)
        found |= reads(node, checks=checks)
    return found


def last_name(node: ast.AST) -> str:
    """`config` of config, of self.config and of make().config."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


@cache
def everything_read() -> set[str]:
    return set().union(*(reads(parse(path), checks=path not in CONFIGS) for path in FILES))


def test_reads_are_seen_and_checks_are_none() -> None:
    text = "def f(config):\n    config.b = other.x\n    return config.env.a\ndef check(c):\n    return c.d\n"
    text += "def a_rules(config):\n    return config.d\n"
    assert reads(ast.parse(text)) == {"env", "a", "d"}
    assert reads(ast.parse(text), checks=False) == {"env", "a"}


def test_every_setting_is_read_somewhere() -> None:
    """Checking it is not using it."""
    assert len(SETTINGS) > 50
    unread = [f"{class_}.{field}" for _, class_, field, _ in SETTINGS if field not in everything_read()]
    assert not unread, f"read by nothing: {unread}"


def test_every_setting_says_what_it_is_and_where_it_comes_from() -> None:
    silent = []
    for path, class_, field, node in SETTINGS:
        line = path.read_text(encoding="utf-8").splitlines()[node.end_lineno - 1]
        if not re.search(r"  # .+; .+", line):
            silent.append(f"{class_}.{field} wants '# what it is; source': {line.strip()}")
    assert not silent, "\n".join(silent)


def test_configurations_are_frozen() -> None:
    for path in CONFIGS:
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
                assert [ast.unparse(d) for d in node.decorator_list] == ["dataclass(frozen=True)"], node.name


# --- manners ---------------------------------------------------------------------------------------------------------


WAITING = {"item", "cpu", "tolist", "numpy", "synchronize"}  # methods that make the CPU wait for the device


def calls(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, str]]:
    """(Class.function that it stands in, name of the method or function called)."""
    for node in ast.iter_child_nodes(tree):
        here = inside
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                here = f"{inside}.{name}".lstrip(".")
            case ast.Call():
                yield inside, last_name(node.func)
        yield from calls(node, here)


def test_calls_are_found_with_their_place() -> None:
    text = "class A:\n    def f(self):\n        return [x.item() for x in g()]\nprint(1)\n"
    assert set(calls(ast.parse(text))) == {("A.f", "item"), ("A.f", "g"), ("", "print")}


def test_the_algorithm_never_waits_for_the_device() -> None:
    """Neither do torch's distributions and its multinomial draw, which check their arguments on the device."""
    allowed = {("Agent.snapshot", "cpu")}
    waits = []
    for path in files_of("dreamer"):
        waits += [
            f"{name_of(path)}: {call} in {place}"
            for place, call in calls(parse(path))
            if call in WAITING and (place, call) not in allowed
        ]
        names = {node.attr for node in ast.walk(parse(path)) if isinstance(node, ast.Attribute)}
        waits += [f"{name_of(path)}: {name}" for name in names & {"distributions", "multinomial"}]
    assert not waits, "\n".join(waits)


def test_the_algorithm_prints_nothing() -> None:
    assert not [name_of(path) for path in files_of("dreamer") if "print" in {name for _, name in calls(parse(path))}]


def test_a_record_of_the_replay_stores_no_state_of_the_model_unless_asked_to() -> None:
    """So none can be stale: a window begins with the zero state. What the games hand out never has one."""
    assert not ReplayConfig().stored_state and EnvSpec((64, 64, 1), 4).state == (0, 0)
    assert Step._fields == ("obs", "prev_action", "reward", "is_first", "is_terminal")
