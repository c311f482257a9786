"""What can be said of the cluster files without a cloud: Ray's own check of them, and what that does not look at."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.tiny import ROOT

DEPLOY = ROOT / "deploy"
FILES = sorted(DEPLOY.glob("cluster*.yaml"))
SCRIPTS = sorted(DEPLOY.glob("*.sh"))
CLOUDS = [path for path in FILES if "onprem" not in path.name]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
each_cloud = pytest.mark.parametrize("path", CLOUDS, ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def commands(config: dict[str, Any]) -> Iterator[str]:
    """Every shell command of a cluster file."""
    for key, value in config.items():
        if key.endswith("_commands"):
            yield from value
    if proxy := config["auth"].get("ssh_proxy_command"):
        yield proxy


def test_all_three_are_there() -> None:
    assert {path.stem for path in FILES} == {"cluster", "cluster-gcp", "cluster-onprem"}


@each_file
def test_ray_accepts_it(path: Path) -> None:
    util = pytest.importorskip("ray.autoscaler._private.util", reason="needs Ray: Python 3.11")
    prepared = util.prepare_config(load(path))
    util.validate_config(prepared)
    kinds = prepared["available_node_types"]
    assert prepared["head_node_type"] in kinds
    assert sum(kind["max_workers"] for kind in kinds.values()) >= prepared["max_workers"] > 0
    # Nothing of Ray's defaults, which would install another Ray.
    assert all("deploy/node.sh" in command for command in commands(prepared)), list(commands(prepared))


@each_file
def test_bash_understands_every_command(path: Path) -> None:
    found = list(commands(load(path)))
    assert len(found) == 4
    for command in found:
        subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_understands_the_scripts(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)


@each_file
def test_nodes_offer_what_the_code_asks_for(path: Path) -> None:
    placement = pytest.importorskip("cluster.on_ray.placement", reason="needs Ray: Python 3.11")
    config = load(path)
    if path in CLOUDS:
        kinds = config["available_node_types"]
        offers = {name: set(kind["resources"]) - {"CPU", "GPU"} for name, kind in kinds.items()}
        head = offers.pop(config["head_node_type"])
        workers = list(offers.values())
    else:
        head, worker = (offered(config[f"{kind}_start_ray_commands"]) for kind in ("head", "worker"))
        workers = [worker]
    assert head == {placement.HEAD_NODE}
    assert workers and all(worker == {placement.ACTOR_NODE} for worker in workers)


def offered(start: list[str]) -> set[str]:
    """The resources that a start command gives to its node, as bash hands them to Ray."""
    words = subprocess.run(
        ["bash", "-c", f"bash() {{ printf '%s\\n' \"$@\"; }}; {start[-1]}"], capture_output=True, text=True, check=True
    )
    values = [line.removeprefix("--resources=") for line in words.stdout.splitlines() if "--resources=" in line]
    found = json.loads(values[0])
    assert len(values) == 1 and all(number > 0 for number in found.values())
    return set(found)


def test_machines_of_ones_own_get_the_autoscaler_that_knows_them() -> None:
    start = load(DEPLOY / "cluster-onprem.yaml")["head_start_ray_commands"][-1]
    assert "export RAY_enable_autoscaler_v2=0;" in start and "unset RAY_CLOUD_INSTANCE_ID RAY_NODE_TYPE_NAME;" in start


# --- Pins ---


@each_file
def test_only_the_projects_own_pins_are_installed(path: Path) -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    setups = [command for command in commands(load(path)) if "node.sh setup" in command]
    assert len(setups) == 2
    for command in setups:
        (asked,) = re.fullmatch(r"bash ~/dreamer/deploy/node.sh setup (\S+) (?:cpu|cuda)", command).groups()
        assert "cluster" in asked.split(",") and set(asked.split(",")) <= set(extras)
    for name in ("cluster", "aws", "gcp"):
        assert all("==" in pin for pin in extras[name]), extras[name]


def test_what_the_scripts_install_is_the_project() -> None:
    installs = re.findall(r"pip install (.*)", "".join(p.read_text() for p in [*SCRIPTS, DEPLOY / "Dockerfile"]))
    ours = [line for line in installs if re.search(r' "?\.(\[|$| )', line)]
    assert len(ours) == 3
    others = [line for line in installs if line not in ours]
    assert len(others) == 1 and re.fullmatch(r"--quiet uv==[\d.]+", others[0])  # it only fetches Python 3.11
    assert set(re.findall(r"python[ :]?(3\.\d+)", (DEPLOY / "node.sh").read_text())) == {"3.11"}


@each_file
def test_all_the_code_goes_to_the_nodes_and_nothing_else(path: Path) -> None:
    mounts = load(path)["file_mounts"]
    packages = {name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    scripts = {"deploy/env.sh", "deploy/node.sh"}
    token = mounts.pop("~/.ray/auth_token")
    assert set(mounts.values()) == packages | {"pyproject.toml", "README.md"} | scripts
    assert all(there == f"~/dreamer/{here}" and (ROOT / here).exists() for there, here in mounts.items())
    assert token == "~/.ray/auth_token"


# --- Strangers ---


@each_cloud
def test_no_node_has_a_public_address_or_an_open_port(path: Path) -> None:
    config = load(path)
    assert config["provider"]["use_internal_ips"] is True
    assert "0.0.0.0/0" not in path.read_text() and "security_group" not in config["provider"]
    for kind in config["available_node_types"].values():
        node = kind["node_config"]
        if config["provider"]["type"] == "aws":  # a group of one's own, or Ray makes one that takes ssh from everywhere
            assert node["SecurityGroupIds"] and node["SubnetIds"] and "NetworkInterfaces" not in node
            assert node["MetadataOptions"] == {"HttpTokens": "required"}
            assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])
        else:
            assert node["networkInterfaces"]
            assert not any("accessConfigs" in interface for interface in node["networkInterfaces"])


@each_cloud
def test_it_cannot_grow_without_end(path: Path) -> None:
    config = load(path)
    head = config["available_node_types"][config["head_node_type"]]
    assert head["max_workers"] == 0 and 0 < config["max_workers"] <= 8 and 0 < config["idle_timeout_minutes"] <= 10
    assert "spot" in path.read_text() or "preemptible" in path.read_text()


def test_ray_asks_for_the_token_and_shows_no_dashboard() -> None:
    assert "export RAY_AUTH_MODE=token" in (DEPLOY / "env.sh").read_text()
    node = (DEPLOY / "node.sh").read_text()
    assert ". deploy/env.sh" in node and "--include-dashboard=false" in node and "0.0.0.0" not in node


def test_no_secret_is_in_a_file() -> None:
    secret = re.compile(r"AKIA[0-9A-Z]{16}|PRIVATE KEY|[0-9a-f]{64}|(password|secret)\s*[:=]\s*\S", re.IGNORECASE)
    for path in [*FILES, *SCRIPTS, DEPLOY / "Dockerfile", ROOT / ".dockerignore"]:
        assert not secret.search(path.read_text()), path


def test_the_image_is_of_the_right_python_not_roots_and_holds_only_the_code() -> None:
    lines = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text()).splitlines()
    steps = [(line.split()[0], line.partition(" ")[2]) for line in lines if re.match(r"[A-Z]+ ", line)]
    assert steps[0] == ("FROM", "python:3.11-slim-bookworm")
    users = [number for number, (verb, _) in enumerate(steps) if verb == "USER"]
    assert [steps[n][1] for n in users] == ["dreamer"]
    roots = [text for verb, text in steps[: users[0]] if verb == "RUN"]
    assert len(roots) == 1 and "--no-install-recommends" in roots[0] and "rm -rf /var/lib/apt/lists" in roots[0]
    verbs = {verb for verb, _ in steps}
    assert "HEALTHCHECK" in verbs and not verbs & {"ADD", "ARG", "EXPOSE"}
    kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert kept[0] == "*"  # what is not named stays out
    assert not any(word in line for line in kept if line[0] == "!" for word in (".git", "runs", ".venv", "tests"))


# --- The verbs ---


def cluster_sh(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(DEPLOY / "cluster.sh"), *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@each_file
def test_what_only_the_user_knows_is_asked_for_before_anything_is_started(path: Path) -> None:
    done = cluster_sh("up", CLUSTER=str(path), RAY="false")
    assert done.returncode == 2
    assert re.fullmatch(r"error: \S+, line \d+: fill in .* docs/cluster.md says how\n", done.stderr), done.stderr


def test_a_missing_file_and_an_unknown_verb_are_one_line(tmp_path: Path) -> None:
    done = cluster_sh("up", CLUSTER=str(tmp_path / "no.yaml"))
    assert done.returncode == 2 and "there is no cluster file" in done.stderr and done.stderr.count("\n") == 1
    (tmp_path / "yes.yaml").write_text("cluster_name: x\n")
    done = cluster_sh("fly", CLUSTER=str(tmp_path / "yes.yaml"))
    assert done.returncode == 2 and "fly" in done.stderr and done.stderr.count("\n") == 1


def test_make_hands_on_arguments_and_cluster_file() -> None:
    # In `make test` this is a make within a make, which also says where it is.
    words = [
        "make",
        "--no-print-directory",
        "-n",
        "cluster-train",
        "CLUSTER=deploy/cluster-gcp.yaml",
        "ARGS=--minutes 2",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    last = done.stdout.strip().splitlines()[-1]
    assert last == "CLUSTER=deploy/cluster-gcp.yaml RAY=.venv/bin/ray bash deploy/cluster.sh train --minutes 2"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Any]:
    """deploy/node.sh in a home of its own, where the environment is a link."""
    home = tmp_path / "dreamer"
    home.mkdir()
    for name in ("deploy", "dreamer", "replay", "actors", "learner", "cluster"):
        (home / name).symlink_to(ROOT / name)
    (home / ".venv").symlink_to(sys.prefix)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(DEPLOY / "node.sh"), *words],
            env=os.environ | {"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    yield call


def test_an_environment_that_is_there_is_used_and_shells_find_it(node: Any, tmp_path: Path) -> None:
    for _ in range(2):
        done = node("setup", "cluster", "cpu")
        assert done.returncode == 0 and "the environment is there already" in done.stdout, done.stderr
    assert (tmp_path / ".bashrc").read_text() == ". ~/dreamer/deploy/env.sh\n"


def test_training_that_cannot_begin_says_why_and_does_not_block_the_next(node: Any) -> None:
    for _ in range(2):
        done = node("train", "--preset", "none-such")
        assert done.returncode == 2
        assert "none-such" in done.stdout and "error: training did not begin" in done.stderr
    assert node("busy").returncode == 1
    assert node("stop").stdout == "no training runs\n"


@pytest.mark.parametrize("installs", [True, False])
def test_a_node_gets_the_libraries_that_opencv_loads_or_says_what_it_lacks(
    installs: bool, node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a server: OpenCV loads once apt-get has been called, which an administrator's word may not allow."""
    there, called, programs = tmp_path / "there", tmp_path / "called", tmp_path / "programs"
    environment = tmp_path / "environment" / "bin"
    environment.mkdir(parents=True)
    programs.mkdir()
    error = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
    (environment / "python").write_text(
        f"#!/bin/sh\ntest -e {there} || {{ echo Traceback >&2; echo '{error}' >&2; exit 1; }}\n"
    )
    allowed = f"touch {there}" if installs else "exit 1"
    (programs / "sudo").write_text(f'#!/bin/sh\necho "$@" >> {called}\n{allowed}\n')
    for program in (environment / "python", programs / "sudo"):
        program.chmod(0o755)
    link = tmp_path / "dreamer" / ".venv"
    link.unlink()
    link.symlink_to(environment.parent)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    done = node("setup", "cluster", "cpu")
    assert "libgl1 libglib2.0-0" in called.read_text() or not installs
    if installs:
        assert done.returncode == 0 and done.stderr == ""
        called.unlink()
        assert node("setup", "cluster", "cpu").returncode == 0 and not called.exists()  # nothing the second time
    else:
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert error in done.stderr and "apt-get install libgl1 libglib2.0-0" in done.stderr
