"""What all our panels and pages have in common, on top of Grafana's own builders. The pages are in dashboards.py.

`graph`, `stat`, `heat` and `table` begin a panel: title, description, queries. Unit, ends of the axis and size are then
said with the methods of its builder, `.unit("s").min(0).span(6)`; a type checker and an editor know them all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, TypeVar

from grafana_foundation_sdk.builders import common, dashboard
from grafana_foundation_sdk.builders.heatmap import Panel as Heat
from grafana_foundation_sdk.builders.heatmap import YAxisConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as Graph
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as choice
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat as Format

Panel = TypeVar("Panel", Graph, Stat, Heat, Table)
Rows = Mapping[str, Sequence[Graph | Stat | Heat | Table]]  # heading -> what stands under it
Limits = Sequence[tuple[float, str]]  # (from this value on, colour); below the first: green

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, RED = "green", "#EAB839", "red"
METRIC = re.compile(r"\b(dreamer_\w+|up|ALERTS)\b(?:\{(.*?)\})?(?!\()")
DASHED = [
    model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [6, 6]}),
    model.DynamicConfigValue("custom.lineWidth", 1),
]


class Line(NamedTuple):
    """One query. `expr` is PromQL for every run: the selector of the run is put in here; [I] is Grafana's interval."""

    expr: str
    legend: str
    reference: bool = False  # drawn thin and dashed: something to compare with


def reference(expr: str, legend: str) -> Line:
    """Something to compare with."""
    return Line(expr, legend, reference=True)


def promql(expr: str) -> str:
    """The query as Grafana sends it: of the chosen run only."""

    def choose(match: re.Match[str]) -> str:
        others = f", {match[2]}" if match[2] else ""
        return f'{match[1]}{{run="$run"{others}}}'

    return METRIC.sub(choose, expr).replace("[I]", "[$__rate_interval]")


# --- Panels ---
# `about` says in one line what it means and what good looks like, `only` where it has data ("": in every run).


def graph(
    title: str, about: str, *lines: Line, limits: Limits = (), log: bool = False, stack: bool = False, only: str = ""
) -> Graph:
    """Curves over time; `log`: on a logarithmic axis, `stack`: areas on top of each other."""
    panel = (
        _begin(Graph(), title, about, only, lines)
        .span(8)
        .unit("short")
        .thresholds(_steps(limits))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC))
        .line_width(2)
        .fill_opacity(40 if stack else 0)
        .show_points(choice.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(True).calcs(["lastNotNull"]))
        .tooltip(common.VizTooltipOptions().mode(choice.TooltipDisplayMode.MULTI).sort(choice.SortOrder.DESCENDING))
    )
    if limits:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(choice.GraphThresholdsStyleMode.DASHED))
    if log:
        panel.scale_distribution(common.ScaleDistributionConfig().type(choice.ScaleDistribution.LOG).log(10))
    if stack:
        panel.stacking(common.StackingConfig().mode(choice.StackingMode.NORMAL).group("A"))
    for line in lines:
        if line.reference:
            panel.override_by_name(line.legend, DASHED)
    return panel


def stat(title: str, about: str, expr: str, limits: Limits = (), only: str = "") -> Stat:
    """One big number: with limits on their colour, else with its course behind it."""
    panel = (
        _begin(Stat(), title, about, only, [Line(expr, title)])
        .span(3)
        .height(4)
        .unit("short")
        .thresholds(_steps(limits))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .text_mode(choice.BigValueTextMode.VALUE)
    )
    if limits:
        panel.color_mode(choice.BigValueColorMode.BACKGROUND).graph_mode(choice.BigValueGraphMode.NONE)
    return panel


def heat(title: str, about: str, histogram: str) -> Heat:
    """How a histogram moves: one column of colours for each moment."""
    line = Line(f"sum by (le) (increase({histogram}_bucket[I]))", "{{le}}")
    panel = _begin(Heat(), title, about, "", [line], Format.HEATMAP).span(8)
    return panel.y_axis(YAxisConfig().unit("short")).show_value(choice.VisibilityMode.NEVER)


def table(title: str, about: str, line: Line, only: str = "") -> Table:
    """The labels of what there is at the end of the chosen time."""
    panel = _begin(Table(), title, about, only, [line], Format.TABLE).unit("short").thresholds(_steps(()))
    steps = [model.DataTransformerConfig(name, options={}) for name in ("labelsToFields", "merge")]
    return panel.transformations(steps)


def wide(panel: Panel, width: int) -> Panel:
    """A shared panel as another page has it, so many of the 24 columns wide."""
    return deepcopy(panel).span(width)


def _begin(
    panel: Panel, title: str, about: str, only: str, lines: Sequence[Line], form: Format = Format.TIME_SERIES
) -> Panel:
    about += f" Only with {only}." if only else ""
    for number, line in enumerate(lines):
        panel.with_target(_query(line, form).ref_id(chr(ord("A") + number)))
    return panel.title(title).description(about).datasource(SOURCE).height(8)


def _query(line: Line, form: Format) -> Dataquery:
    query = Dataquery().datasource(SOURCE).expr(promql(line.expr)).legend_format(line.legend).format(form)
    return query.instant() if form is Format.TABLE else query.range()  # a table: how it is at the end


def _steps(limits: Limits) -> dashboard.ThresholdsConfig:
    steps = [model.Threshold(None, GREEN), *(model.Threshold(at, colour) for at, colour in limits)]
    return dashboard.ThresholdsConfig().steps(steps)


# --- Pages ---


def page(name: str, title: str, about: str, rows: Rows) -> dict[str, Any]:
    """What Grafana reads. Panels stand from left to right; a new line begins where the 24 columns are full."""
    built = (
        dashboard.Dashboard(f"Dreamer / {title}")
        .uid(f"dreamer-{name}")
        .description(about)
        .tags(["dreamer"])
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-1h", "now")
        .link(_others())
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("run")
            .label("Run")
            .datasource(SOURCE)
            .query({"query": "label_values(dreamer_run_info, run)", "refId": "runs"})
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
        .annotation(
            dashboard.AnnotationQuery()
            .name("Restarts")
            .datasource(SOURCE)
            .icon_color(RED)
            .expr(promql("sum by (role) (increase(dreamer_worker_restarts_total[I])) > 0"))
        )
    )
    for heading, panels in rows.items():
        built.with_row(dashboard.Row(heading))
        for panel in panels:
            built.with_panel(deepcopy(panel))  # which writes its place into it
    found: dict[str, Any] = json.loads(JSONEncoder().encode(built.build()))
    found["annotations"]["list"][0]["titleFormat"] = "{{role}} started again"  # Prometheus' own, in no builder
    for number, drawn in enumerate(found["panels"], start=1):
        drawn["id"] = number
    return found


def _others() -> dashboard.DashboardLink:
    """To the other pages, of the same run and time."""
    link = dashboard.DashboardLink("Dreamer").type(model.DashboardLinkType.DASHBOARDS).tags(["dreamer"])
    return link.include_vars(True).keep_time(True)
