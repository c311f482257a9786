"""Prometheus' configuration, its rules and who is told: judged by the programs that read them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.promql import OTHERS, declared, selectors
from tests.deploy.tools import need

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = {
    *("WorkersMissing", "LearnerDown", "RunGone", "ActorStalled", "ActorCrashLooping"),
    *("StaleWeights", "LearnerIdle", "ActorsThrottled", "ReplayStarving", "ReplayMemoryHigh", "CheckpointStale"),
    *("NonFiniteLoss", "KLSpike", "KLCollapse", "EntropyCollapse", "ReturnRegressed"),
}


def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text()) for path in sorted((PROMETHEUS / "rules").glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def judged(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_configuration_and_the_rules() -> None:
    judged(need("promtool"), "check", "config", PROMETHEUS / "prometheus.yml")
    judged(need("promtool"), "check", "rules", *sorted((PROMETHEUS / "rules").glob("*.yml")))


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    tests = PROMETHEUS / "rules_test.yml"
    judged(need("promtool"), "test", "rules", tests)
    told = yaml.safe_load(tests.read_text())["tests"]
    fired = {case["alertname"] for test in told for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == ALERTS


def test_alertmanager_accepts_its_configuration_and_knows_the_alerts() -> None:
    path = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    judged(need("amtool"), "check-config", path)
    named = " ".join(
        match
        for rule in yaml.safe_load(path.read_text())["inhibit_rules"]
        for side in ("source_matchers", "target_matchers")
        for match in rule[side]
    )
    assert set(re.findall(r"[A-Z]\w+", named)) <= ALERTS


def test_the_alerts_are_those_that_a_run_needs() -> None:
    assert sorted(rule["alert"] for rule in alerts()) == sorted(ALERTS)


def test_a_rule_asks_for_declared_metrics() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    unknown = [
        f"{rule.get('alert') or rule['record']} asks for {selector.name}"
        for rule in rules()
        for selector in selectors(rule["expr"])
        if selector.name not in OTHERS | recorded and not declared(selector.name)
    ]
    assert not unknown, "\n".join(unknown)


def test_an_alert_says_what_to_do() -> None:
    wrong = []
    for alert in alerts():
        name = alert["alert"]
        file, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        entry = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", (ROOT / file).read_text(), re.S | re.M)
        if anchor != name.lower() or entry is None:
            wrong.append(f"{name} is not in {file}, or its address does not lead there")
        elif not all(f"**{word}**" in entry[1] for word in ("Means", "Look", "Do")):
            wrong.append(f"{name}: {file} does not say what it means, where to look and what to do")
        if alert["labels"]["severity"] not in ("info", "warning", "critical"):
            wrong.append(f"{name}: how bad is it?")
    assert not wrong, "\n".join(wrong)


def test_everything_listens_on_this_machine_only_and_no_password_is_written_down() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    assert set(services) == {"prometheus", "alertmanager", "grafana"}
    for name in ("prometheus", "alertmanager"):
        assert any(word.startswith("--web.listen-address=127.0.0.1:") for word in services[name]["command"])
    grafana = services["grafana"]["environment"]
    assert grafana["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert grafana["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_PASSWORD:?")
    assert grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "${GRAFANA_ANONYMOUS:-false}"
    assert all(re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", service["image"]) for service in services.values())
