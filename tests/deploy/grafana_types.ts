// A page of ours in Grafana's own types: each panel's options are those of its plugin, each query is Prometheus'.
// test_dashboards.py makes a JSON Schema of it.
import type { AnnotationQuery, FieldConfig as Field, Dashboard, Panel, RowPanel, VariableModel } from "@grafana/schema/dist/esm/raw/dashboard/x/dashboard_types.gen";
import type { PrometheusDataQuery } from "@grafana/schema/dist/esm/raw/composable/prometheus/dataquery/x/PrometheusDataQuery_types.gen";
import type * as Heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as Stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as Table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as TimeSeries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

type Override = { matcher: { id: string; options?: unknown }; properties: Array<{ id: string; value?: unknown }> };
type Of<Kind extends string, Options, Custom> = Omit<Panel, "type" | "options" | "fieldConfig" | "targets"> & {
  type: Kind;
  options?: Options;
  fieldConfig?: { defaults: Omit<Field, "custom"> & { custom?: Custom }; overrides: Override[] };
  targets: PrometheusDataQuery[];
};

// What the Prometheus data source reads of an annotation is not in the published types.
type Mark = AnnotationQuery & { expr: string; titleFormat: string };

// The builders write these of every variable; only one of the type "interval" reads them.
type Variable = VariableModel & { auto?: boolean; auto_count?: number; auto_min?: string };

export type Page = Omit<Dashboard, "panels" | "annotations" | "templating"> & {
  templating: { list: Variable[] };
  annotations: { list: Mark[] };
  panels: Array<
    | RowPanel
    | Of<"timeseries", Omit<TimeSeries.Options, "timezone">, TimeSeries.FieldConfig>
    | Of<"stat", Stat.Options, never>
    | Of<"heatmap", Partial<Heatmap.Options>, Heatmap.FieldConfig>
    | Of<"table", Partial<Table.Options>, never>
  >;
};
