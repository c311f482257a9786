"""deploy/compose.yaml names files of this project as the containers see them: each must be there."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.cluster.tiny import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def here(path: str, volumes: list[str]) -> Path | None:
    """What a container's path is on this machine; None where it is a volume of Docker's or the image's own."""
    for volume in volumes:
        source, target, *_ = volume.split(":")
        if source.startswith("./") and (path == target or path.startswith(f"{target}/")):
            return DEPLOY / source / path.removeprefix(target).lstrip("/")
    return None


def test_what_a_container_is_given_is_there_and_read_only() -> None:
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source, _, *mode = volume.split(":")
            if source.startswith("./"):
                assert (DEPLOY / source).is_dir() and mode == ["ro"], volume
            else:
                assert source in COMPOSE["volumes"], volume


def test_every_file_that_a_container_is_told_to_read_is_given_to_it() -> None:
    found = []
    for service in COMPOSE["services"].values():
        words = [word.split("=", 1)[-1] for word in service.get("command", [])]
        words += [str(value) for value in service.get("environment", {}).values()]
        named = [word for word in words if word.startswith("/etc/")]
        found += [here(word, service["volumes"]) for word in named]
    dashboards = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/dreamer.yml").read_text())["providers"]
    volumes = COMPOSE["services"]["grafana"]["volumes"]
    found += [here(provider["options"]["path"], volumes) for provider in dashboards]
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    rules = [path for pattern in prometheus["rule_files"] for path in (DEPLOY / "prometheus").glob(pattern)]
    assert len(found) == 4 and all(path and path.exists() for path in found), found
    assert len(rules) == 2
