// Draws one dashboard with Grafana's own React components: curves, big numbers, tables and frames are @grafana/ui's.
// Heat maps are not part of that library; Heat below is a stand-in of ours. window.PAGE is written by render.py.
import React, { useEffect, useRef } from "react";
import { createRoot } from "react-dom/client";
import { ThemeContext, createTheme, dateTime, getDisplayProcessor, toDataFrame, FieldType } from "@grafana/data";
import { BigValue, GlobalStyles, PanelChrome, Table, TimeSeries } from "@grafana/ui";
import "uplot/dist/uPlot.min.css";

const { dashboard, results, from, to } = window.PAGE; // results: panel id -> [{legend, points: [[seconds, value]]}]
const theme = createTheme({ colors: { mode: "dark" } });
const CELL = { width: 68, height: 38 };
const GAP = 8;
const timeRange = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: "now-1h", to: "now" } };

function matching(panel, name) {
  const found = panel.fieldConfig.overrides.filter((one) => one.matcher.options === name);
  return found.flatMap((one) => one.properties);
}

/** The configuration of a curve: what holds for the panel, and what is said of its name. */
function configOf(panel, name) {
  const { custom, ...plain } = panel.fieldConfig.defaults;
  const config = { ...plain, displayNameFromDS: name, custom: { ...custom } };
  if (config.thresholds) {
    config.thresholds = {
      ...config.thresholds,
      steps: config.thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity })),
    };
  }
  for (const { id, value } of matching(panel, name)) {
    if (id.startsWith("custom.")) config.custom[id.slice("custom.".length)] = value;
    else config[id] = value;
  }
  return config;
}

function framesOf(panel) {
  return results[panel.id].map(({ legend, points }, number) => {
    const frame = toDataFrame({
      refId: String(number),
      fields: [
        { name: "Time", type: FieldType.time, values: points.map((point) => point[0] * 1000) },
        { name: "Value", type: FieldType.number, values: points.map((point) => point[1]) },
      ],
    });
    const value = frame.fields[1];
    value.config = configOf(panel, legend);
    value.state = { seriesIndex: number };
    for (const field of frame.fields) field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
    return frame;
  });
}

function Curves({ panel, width, height }) {
  const frames = framesOf(panel);
  return <TimeSeries {...{ frames, width, height, timeRange, theme }} timeZone="utc" legend={panel.options.legend} />;
}

function Stat({ panel, width, height }) {
  const [frame] = framesOf(panel);
  const field = frame.fields[1];
  const known = field.values.filter((value) => value !== null);
  const value = field.display(known[known.length - 1]);
  const sparkline = panel.options.graphMode === "area" ? { y: field, x: frame.fields[0], timeRange } : undefined;
  return (
    <BigValue
      {...{ value, sparkline, width, height, theme }}
      colorMode={panel.options.colorMode}
      graphMode={panel.options.graphMode}
      textMode={panel.options.textMode}
      justifyMode={panel.options.justifyMode}
    />
  );
}

function Rows({ panel, width, height }) {
  const rows = results[panel.id];
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.labels)))].filter((name) => !name.startsWith("__"));
  const frame = toDataFrame({
    fields: names.map((name) => ({ name, type: FieldType.string, values: rows.map((row) => row.labels[name] ?? "") })),
  });
  for (const field of frame.fields) field.display = getDisplayProcessor({ field, theme });
  return <Table data={frame} width={width} height={height} />;
}

/** Cumulative buckets over time -> one column of cells for each moment; the colour is the share of the fullest. */
function Heat({ panel, width, height }) {
  const ref = useRef(null);
  useEffect(() => {
    const canvas = ref.current.getContext("2d");
    const rows = [...results[panel.id]].sort((a, b) => Number(a.legend.replace("+Inf", "Infinity")) - Number(b.legend.replace("+Inf", "Infinity")));
    const at = rows.map((row) => new Map(row.points));
    const times = [...new Set(rows.flatMap((row) => row.points.map((point) => point[0])))].sort((a, b) => a - b);
    const cells = rows.map((_, n) => times.map((time) => (at[n].get(time) ?? 0) - (n ? at[n - 1].get(time) ?? 0 : 0)));
    const most = Math.max(...cells.flat(), 1e-9);
    const [left, bottom] = [44, 20];
    const high = (height - bottom) / rows.length;
    const wide = (width - left) / times.length;
    canvas.font = "11px Inter";
    cells.forEach((row, n) => {
      const y = height - bottom - (n + 1) * high;
      canvas.fillStyle = theme.colors.text.secondary;
      if (high > 9 || n % 2 === 0) canvas.fillText(rows[n].legend, 4, y + high / 2 + 4);
      row.forEach((value, x) => {
        if (value <= 1e-9) return;
        canvas.fillStyle = `rgba(255, 152, 48, ${0.15 + 0.85 * Math.sqrt(value / most)})`;
        canvas.fillRect(left + x * wide, y, wide, high - 1);
      });
    });
    canvas.fillStyle = theme.colors.text.secondary;
    for (let n = 0; n <= 4; n++) {
      const label = dateTime((from + ((to - from) * n) / 4) * 1000).utc().format("HH:mm");
      canvas.fillText(label, Math.min(left + ((width - left) * n) / 4, width - 34), height - 5);
    }
  }, []);
  return <canvas ref={ref} width={width} height={height} />;
}

const KINDS = { timeseries: Curves, stat: Stat, table: Rows, heatmap: Heat };

function Placed({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const [width, height] = [w * CELL.width - GAP, h * CELL.height - GAP];
  const style = { position: "absolute", left: x * CELL.width, top: y * CELL.height, width, height };
  if (panel.type === "row") {
    return <div style={{ ...style, font: "500 16px Inter", paddingTop: 6 }}>{panel.title}</div>;
  }
  const Kind = KINDS[panel.type];
  const empty = !(results[panel.id] ?? []).length;
  return (
    <div style={style}>
      <PanelChrome title={panel.title} width={width} height={height} padding="none">
        {(w, h) => (empty ? <div style={{ padding: 12, opacity: 0.6 }}>No data</div> : <Kind panel={panel} width={w} height={h} />)}
      </PanelChrome>
    </div>
  );
}

function Page() {
  const bottom = Math.max(...dashboard.panels.map((panel) => panel.gridPos.y + panel.gridPos.h));
  document.body.dataset.height = 40 + bottom * CELL.height;
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ font: "500 18px Inter", padding: "8px 0" }}>{dashboard.title}</div>
      <div style={{ position: "relative" }}>
        {dashboard.panels.map((panel) => <Placed key={panel.id} panel={panel} />)}
      </div>
    </ThemeContext.Provider>
  );
}

const text = theme.colors.text.primary;
Object.assign(document.body.style, { background: theme.colors.background.canvas, color: text, margin: "8px", fontFamily: "Inter" });
createRoot(document.getElementById("page")).render(<Page />);
