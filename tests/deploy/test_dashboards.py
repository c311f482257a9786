"""The dashboards, as far as they can be judged without a Grafana server: its own types, and every query."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.metrics import SPECS
from cluster.metrics.spec import GAUGE
from deploy.grafana.dashboards import DASHBOARDS, NOT_SHOWN, OUT, files
from tests.deploy.pages import PANELS
from tests.deploy.promql import OTHERS, declared, selectors
from tests.deploy.tools import need

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema: make setup")

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "grafana-schema"
PACKAGES = ("@grafana/schema@10.4.19", "ts-json-schema-generator@2.4.0", "typescript@5.8.3")
COLUMNS = 24  # of Grafana's grid
each_page = pytest.mark.parametrize("page", DASHBOARDS, ids=[page["uid"] for page in DASHBOARDS])


def test_the_committed_files_are_what_the_program_writes() -> None:
    """After a change: make dashboards."""
    assert {path.name: path.read_text(encoding="utf-8") for path in OUT.glob("*")} == files()


# --- Queries ---


def queries() -> Iterator[tuple[str, str]]:
    """(name of the panel, query) of every panel."""
    for name, panel in PANELS.items():
        for target in panel["targets"]:
            yield name, target["expr"]


def test_queries_ask_for_declared_metrics_of_the_chosen_run() -> None:
    wrong = []
    for name, expr in queries():
        for selector in selectors(expr):
            chosen = {(m.name, m.value) for m in selector.matchers.matchers}
            if selector.name not in OTHERS and not declared(selector.name):
                wrong.append(f"{name}: {selector.name} is declared nowhere")
            if ("run", "x") not in chosen and not selector.name.startswith("ray_"):
                wrong.append(f"{name}: {selector.name} of whatever run")
            # The inline runtime has one process for all roles: who asks for one finds nothing there.
            if fixed := {label for label, _ in chosen} & {"role", "instance", "job"}:
                wrong.append(f"{name}: {selector.name} of one {fixed} only")
    assert not wrong, "\n".join(wrong)


def test_counters_are_asked_how_fast_they_grow() -> None:
    """But for those whose total a person wants to see."""
    totals = {"dreamer_worker_restarts_total", "dreamer_actor_errors_total", "dreamer_learner_updates_total"}
    wrong = []
    for name, expr in queries():
        for selector in selectors(expr):
            spec = SPECS.get(declared(selector.name) or "")
            grows = spec and spec.kind != GAUGE and selector.name not in totals
            if grows and "rate(" not in expr and "increase(" not in expr:
                wrong.append(f"{name}: {expr}")
    assert not wrong, "\n".join(wrong)


def test_every_metric_is_shown_or_it_is_said_why_not() -> None:
    shown = {declared(selector.name) for _, expr in queries() for selector in selectors(expr)}
    assert set(SPECS) - shown == set(NOT_SHOWN)
    assert all(NOT_SHOWN.values())


# --- For people ---


def test_a_panel_says_what_it_means() -> None:
    wrong = []
    for name, panel in PANELS.items():
        about = panel["description"]
        axis = panel["options"]["yAxis"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]
        if len(about) <= 5 or not about.endswith(".") or "\n" in about:
            wrong.append(f"{name}: its description is no line of text: {about!r}")
        if not axis["unit"]:
            wrong.append(f"{name}: no unit")
        if not all(target["legendFormat"] for target in panel["targets"]):
            wrong.append(f"{name}: a curve without a name")
    assert not wrong, "\n".join(wrong)


@each_page
def test_a_page_can_be_read(page: dict[str, Any]) -> None:
    drawn = page["panels"]
    assert len({panel["id"] for panel in drawn}) == len(drawn)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in drawn):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= COLUMNS and not cells & taken
        taken |= cells
    titles = [panel["title"] for panel in drawn if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)


def test_the_first_page_asks_the_three_questions_first() -> None:
    assert DASHBOARDS[0]["uid"] == "dreamer-overview"
    assert DASHBOARDS[0]["panels"][0]["title"] == "Is it learning, is it fast, is anything broken?"


# --- Grafana's own types ---


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """JSON Schema of a page, made once from Grafana's published types; in .cache from then on."""
    types = Path(__file__).with_name("grafana_types.ts")
    made = CACHE / "page.json"
    known = CACHE / types.name
    if not made.exists() or not known.exists() or known.read_text() != types.read_text():
        need("npm")
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text("{}")
        options = {"strict": True, "skipLibCheck": True, "moduleResolution": "node", "types": []}
        (CACHE / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": [types.name]}))
        known.write_text(types.read_text())
        install = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES)
        try:
            run(*install)
        except AssertionError:  # npm trips over what it leaves behind when a download fails
            shutil.rmtree(CACHE / "node_modules", ignore_errors=True)
            run(*install)
        generator = ("npx", "--no-install", "ts-json-schema-generator", "--no-type-check", "--expose", "none")
        run(*generator, "--tsconfig", "tsconfig.json", "--path", types.name, "--type", "Page", "--out", "new.json")
        (CACHE / "new.json").replace(made)
    return json.loads(made.read_text())


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.xdist_group("schema")  # made by one process
@each_page
def test_grafanas_types_accept_a_page(page: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(schema).validate(page)


def spoiled(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Pages that Grafana would not understand."""
    stat, curve = (next(p for p in page["panels"] if p["type"] == kind) for kind in ("stat", "timeseries"))
    for panel, path, value in (
        (stat, ("options", "colorMode"), "rainbow"),
        (stat, ("options", "reduceOptions", "calcs"), "last"),
        (curve, ("fieldConfig", "defaults", "custom", "stacking"), "normal"),
        (curve, ("options", "unknown"), 1),
        (curve, ("gridPos", "x"), "left"),
    ):
        copied = copy.deepcopy(page)
        place = copied["panels"][page["panels"].index(panel)]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        yield copied


@pytest.mark.xdist_group("schema")
def test_grafanas_types_refuse_a_page_that_is_wrong(schema: dict[str, Any]) -> None:
    wrong = list(spoiled(DASHBOARDS[0]))
    assert len(wrong) == 5
    for page in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft7Validator(schema).validate(page)
