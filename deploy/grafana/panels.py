"""How a dashboard is written down, and the JSON that Grafana 10 makes of it. The dashboards are in dashboards.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

COLUMNS = 24  # of Grafana's grid
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED, BLUE = "green", "#EAB839", "red", "blue"
METRIC = re.compile(r"\b(dreamer_\w+|up|ALERTS)\b(?:\{(.*?)\})?(?!\()")


class Line(NamedTuple):
    """One query. `expr` is PromQL for every run: the selector of the run is put in here; [I] is Grafana's interval."""

    expr: str
    legend: str
    reference: bool = False  # drawn thin and dashed: something to compare with


class Panel(NamedTuple):
    """One picture."""

    title: str
    about: str  # what it means and what good looks like, one line
    lines: tuple[Line, ...]
    kind: str = "timeseries"  # or stat, heatmap, table
    unit: str = "short"  # a name of Grafana's
    width: int = 8  # columns
    height: int = 8  # rows
    limits: tuple[tuple[float, str], ...] = ()  # (from this value on, colour); below the first: green
    low: float | None = None  # of the axis
    high: float | None = None
    log: bool = False  # logarithmic axis
    stack: bool = False  # areas on top of each other
    only: str = ""  # where it has data, in words; "" = in every run


class Row(NamedTuple):
    """A heading and what stands under it."""

    title: str
    panels: tuple[Panel, ...]


class Dashboard(NamedTuple):
    """One page."""

    name: str  # of its file, and of its address
    title: str
    about: str
    rows: tuple[Row, ...]


def line(expr: str, legend: str = "") -> Line:
    return Line(expr, legend)


def reference(expr: str, legend: str) -> Line:
    """Something to compare with."""
    return Line(expr, legend, reference=True)


def stat(title: str, about: str, expr: str, **more: Any) -> Panel:
    """One big number."""
    return Panel(title, about, (line(expr, title),), kind="stat", **{"width": 3, "height": 4} | more)


def graph(title: str, about: str, *lines: Line, **more: Any) -> Panel:
    """Curves over time."""
    return Panel(title, about, lines, **more)


def heat(title: str, about: str, histogram: str, **more: Any) -> Panel:
    """How a histogram moves: one column of colours for each moment."""
    return Panel(title, about, (line(f"sum by (le) (increase({histogram}_bucket[I]))", "{{le}}"),), "heatmap", **more)


def promql(expr: str) -> str:
    """The query as Grafana sends it: of the chosen run only."""

    def choose(match: re.Match[str]) -> str:
        others = f", {match[2]}" if match[2] else ""
        return f'{match[1]}{{run="$run"{others}}}'

    return METRIC.sub(choose, expr).replace("[I]", "[$__rate_interval]")


def panels(dashboard: Dashboard) -> Iterator[Panel]:
    """All of one dashboard."""
    for row in dashboard.rows:
        yield from row.panels


# --- JSON ---


def to_json(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana reads."""
    return {
        "uid": f"dreamer-{dashboard.name}",
        "title": f"Dreamer / {dashboard.title}",
        "description": dashboard.about,
        "tags": ["dreamer"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one cross-hair through all panels
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [_links()],
        "templating": {"list": _variables()},
        "annotations": {"list": [_restarts()]},
        "panels": list(_place(dashboard.rows)),
    }


def _links() -> dict[str, Any]:
    """To the other dashboards, of the same run and time."""
    return {
        "type": "dashboards",
        "title": "Dreamer",
        "tags": ["dreamer"],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _variables() -> list[dict[str, Any]]:
    runs = "label_values(dreamer_run_info, run)"
    return [
        {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"},
        {
            "type": "query",
            "name": "run",
            "label": "Run",
            "datasource": SOURCE,
            "query": {"query": runs, "refId": "runs"},
            "refresh": 2,  # whenever the time range changes
            "sort": 0,
            "multi": False,
            "includeAll": False,
        },
    ]


def _restarts() -> dict[str, Any]:
    """Marks in every curve where a process was started again."""
    return {
        "name": "Restarts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": RED,
        "expr": promql("sum by (role) (increase(dreamer_worker_restarts_total[I])) > 0"),
        "titleFormat": "{{role}} started again",
    }


def _place(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Headings and panels, from left to right and from top to bottom."""
    number, y = 0, 0
    for row in rows:
        number += 1
        heading = {"type": "row", "id": number, "title": row.title, "collapsed": False, "panels": []}
        yield heading | {"gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            yield _panel(panel, number) | {"gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height}}
            x, height = x + panel.width, max(height, panel.height)
        y += height


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    about = panel.about + (f" Only with {panel.only}." if panel.only else "")
    kinds = {"timeseries": _curves, "stat": _stat, "heatmap": _heatmap, "table": _table}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": about,
        "datasource": SOURCE,
        "targets": [_target(panel, number, one) for number, one in enumerate(panel.lines)],
        **kinds[panel.kind](panel),
    }


def _target(panel: Panel, number: int, one: Line) -> dict[str, Any]:
    now = panel.kind == "table"  # only how it is at the end of the chosen time
    form = {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series")
    return {
        "refId": chr(ord("A") + number),
        "datasource": SOURCE,
        "expr": promql(one.expr),
        "legendFormat": one.legend,
        "format": form,
        "instant": now,
        "range": not now,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    """Unit, axis and thresholds."""
    steps = [{"value": None, "color": GREEN}, *({"value": at, "color": colour} for at, colour in panel.limits)]
    ends = {name: end for name, end in (("min", panel.low), ("max", panel.high)) if end is not None}
    return {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}, **ends}


def _curves(panel: Panel) -> dict[str, Any]:
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 2,
        "fillOpacity": 40 if panel.stack else 0,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stack else "none", "group": "A"},
        "scaleDistribution": {"type": "log", "log": 10} if panel.log else {"type": "linear"},
        "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
    }
    colour = {"mode": "palette-classic"}
    dashed = [
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [6, 6]}},
        {"id": "custom.lineWidth", "value": 1},
    ]
    overrides = [
        {"matcher": {"id": "byName", "options": one.legend}, "properties": dashed}
        for one in panel.lines
        if one.reference
    ]
    return {
        "fieldConfig": {"defaults": _defaults(panel) | {"color": colour, "custom": custom}, "overrides": overrides},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _stat(panel: Panel) -> dict[str, Any]:
    return {
        "fieldConfig": {"defaults": _defaults(panel) | {"color": {"mode": "thresholds"}}, "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background" if panel.limits else "value",
            "graphMode": "area" if not panel.limits else "none",
            "textMode": "value",
            "justifyMode": "auto",
            "orientation": "auto",
            "wideLayout": True,
            "showPercentChange": False,
        },
    }


def _heatmap(panel: Panel) -> dict[str, Any]:
    hidden = {"legend": False, "tooltip": False, "viz": False}
    return {
        "fieldConfig": {"defaults": {"custom": {"hideFrom": hidden}}, "overrides": []},
        "options": {
            "calculate": False,  # the histogram's own buckets
            "color": {
                "mode": "scheme",
                "scheme": "Oranges",
                "steps": 64,
                "exponent": 0.5,
                "fill": "dark-orange",
                "reverse": False,
            },
            "yAxis": {"axisPlacement": "left", "unit": panel.unit, "reverse": False},
            "rowsFrame": {"layout": "auto"},
            "cellGap": 1,
            "filterValues": {"le": 1e-9},
            "showValue": "never",
            "legend": {"show": True},
            "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
        },
    }


def _table(panel: Panel) -> dict[str, Any]:
    return {
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": {"showHeader": True, "cellHeight": "sm"},
        "transformations": [{"id": "labelsToFields", "options": {}}, {"id": "merge", "options": {}}],
    }
