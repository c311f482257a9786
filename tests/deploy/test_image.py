"""What deploy/Dockerfile makes, made here without Docker: its tree, its environment and its own commands."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from cluster.console.missing import LIBRARIES_MEND
from tests.cluster.tiny import ROOT

pytest.importorskip("setuptools", reason="needs setuptools, which builds the package")
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PACKAGES = [path for path in sys.path if path.endswith("site-packages")]


class Image(NamedTuple):
    """As far as it can be made here."""

    home: Path  # its WORKDIR
    environment: dict[str, str]


def steps() -> list[tuple[str, str]]:
    """(verb, what stands behind it) of every line of the Dockerfile."""
    lines = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text()).splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if re.match(r"[A-Z]+ ", line)]


def context() -> list[str]:
    """The files that `docker build` sees: those that .dockerignore lets pass, last matching line first."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in tracked.stdout.splitlines() if (ROOT / name).is_file() and passes(name, rules)]


def passes(name: str, rules: list[str]) -> bool:
    """A rule is of a path, or of a folder above it; ** is of any folders, and ! takes back what was excluded."""
    parts = name.split("/")
    above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    kept = True
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        names = parts if "**/" in rule else above
        if any(fnmatch.fnmatchcase(each, pattern) for each in names):
            kept = rule.startswith("!")
    return kept


def copy(words: list[str], home: Path) -> None:
    """COPY --chown=... SOURCE... TARGET"""
    *sources, _ = [word for word in words if not word.startswith("--")]
    for name in context():
        if "." in sources or any(name == source or name.startswith(f"{source}/") for source in sources):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, home / name)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The user's lines of the Dockerfile, one after the other. Packages are those of this environment, not fetched."""
    folder = tmp_path_factory.mktemp("image")
    home, packages = folder / "dreamer", folder / "packages"
    home.mkdir()
    packages.mkdir()
    for path in (path for place in PACKAGES for path in Path(place).iterdir() if "dreamer" not in path.name):
        if not (packages / path.name).exists():
            (packages / path.name).symlink_to(path)
    environment = {
        "HOME": str(home.parent),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(packages),  # without this checkout, which is installed there as well
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which, of all things, means that there is none
    }
    found = steps()
    users = next(number for number, (verb, _) in enumerate(found) if verb == "USER")
    for verb, text in found[users:]:
        if verb == "COPY":
            copy(text.split(), home)
        if verb == "RUN":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text], cwd=home, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    environment["PATH"] = f"{home}/.venv/bin:{environment['PATH']}"
    return Image(home, environment)


def call(image: Image, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=cwd, env=image.environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("command", [("python", "-m", "cluster"), ("dreamer",)], ids=["module", "console script"])
def test_the_image_can_be_built_and_its_commands_run_anywhere(
    image: Image, command: tuple[str, ...], tmp_path: Path
) -> None:
    done = call(image, tmp_path, *command, "doctor", "--json")
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert all(found[name]["ok"] for name in ("torch", "numpy", "gymnasium", "ale-py", "opencv-python", "game")), found


def test_all_of_the_code_is_in_the_image_and_nothing_else(image: Image, tmp_path: Path) -> None:
    code = {Path(name) for name in context() if name.endswith(".py")}
    assert len(code) > 50 and not any(path.parts[0] in ("tests", "deploy") for path in code)
    modules = sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in code)
    script = f"from importlib.util import find_spec\nfor m in {modules!r}: print(find_spec(m).origin)"
    done = call(image, tmp_path, "python", "-c", script)
    assert done.returncode == 0, done.stderr
    assert {Path(line) for line in done.stdout.splitlines()} == {image.home / path for path in code}


def test_what_is_ignored_stays_out() -> None:
    rules = ["*", "!cluster", "!deploy/env.sh", "**/__pycache__", "**/*.egg-info"]
    assert passes("cluster/cli.py", rules) and passes("deploy/env.sh", rules)
    for name in ("runs/a/config.json", "deploy/cluster.yaml", "cluster/__pycache__/cli.pyc", "dreamer.egg-info/x"):
        assert not passes(name, rules), name


def test_the_libraries_that_opencv_loads_are_installed_wherever_it_is() -> None:
    libraries = re.findall(r"lib\S+", LIBRARIES_MEND.partition("(")[0])
    assert len(libraries) == 2
    (roots,) = [text for verb, text in steps() if verb == "RUN" and "apt-get install" in text]
    assert set(libraries) <= set(roots.split())
    node = (ROOT / "deploy" / "node.sh").read_text()
    assert f'LIBRARIES="{" ".join(libraries)}"' in node


# --- What is missing is said in one line ---

NO_FILE = "cannot open shared object file: No such file or directory"
STUBS = {  # package -> (what its import does here, what is said)
    "cv2": (f'raise ImportError("libGL.so.1: {NO_FILE}")', ("libGL.so.1", "apt-get install libgl1 libglib2.0-0")),
    "cv2 without glib": (f'raise ImportError("libgthread-2.0.so.0: {NO_FILE}")', ("libgthread", "libglib2.0-0")),
    "torch": (f'raise OSError("libcudart.so.13: {NO_FILE}")', ("libcudart.so.13", "make setup")),
    "ale_py": ('raise ModuleNotFoundError("No module named ale_py", name="ale_py")', ("ale_py", "make setup")),
    "tyro": ('raise ImportError("cannot import name x", name="tyro")', ("tyro", "make setup")),
    "numpy": ('raise ImportError("C-extensions failed", name="numpy")', ("numpy", "make setup")),
}
each_stub = pytest.mark.parametrize("stub", STUBS)


def with_stub(stub: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line where a package's import fails."""
    name = stub.split()[0]
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "__init__.py").write_text(STUBS[stub][0] + "\n")
    return subprocess.run(
        [sys.executable, "-m", "cluster", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@each_stub
def test_a_command_that_cannot_be_loaded_says_why_in_one_line(stub: str, tmp_path: Path) -> None:
    done = with_stub(stub, tmp_path, "train", "--run-dir", str(tmp_path / "run"))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in STUBS[stub][1]), done.stderr
    assert not (tmp_path / "run").exists()


@each_stub
def test_doctor_says_it_beside_all_else(stub: str, tmp_path: Path) -> None:
    done = with_stub(stub, tmp_path, "doctor")
    if stub == "numpy":  # nothing of ours goes without it
        assert done.returncode == 2 and "numpy" in done.stderr and done.stderr.count("\n") == 1, done.stderr
        return
    assert done.returncode == 1 and done.stderr == "", done.stderr
    bad = [line for line in done.stdout.splitlines() if line.startswith("BAD") and STUBS[stub][1][0] in line]
    assert bad and all(word in bad[0] for word in STUBS[stub][1]), done.stdout
    assert "disk" in done.stdout and "python" in done.stdout


def test_a_fault_of_our_own_is_no_missing_package(tmp_path: Path) -> None:
    from cluster.console.missing import what_is_missing

    assert what_is_missing(ImportError("cannot import name 'x'", name="cluster.run.books")) is None
    assert what_is_missing(OSError(28, "No space left on device")) is None
