"""Pictures of the dashboards without a Grafana server: `python deploy/grafana/render/render.py PROMETHEUS OUT`

Asks a Prometheus what Grafana would ask, and has headless Chromium draw it with Grafana's own components (page.jsx).
Needs chromium, and in WORK (default /tmp/render): npm install @grafana/ui@10.4.19 @grafana/data@10.4.19 react@18
react-dom@18 esbuild. Heat maps are drawn by us: that library has none.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).parent
DASHBOARDS = HERE.parent / "dashboards"
POINTS = 250  # of a curve
SCRAPE = 5  # seconds, prometheus.yml
COLOURS = 64  # of a picture: a third of the file


def ask(address: str, path: str, **values: str) -> Any:
    with urllib.request.urlopen(f"{address}/api/v1/{path}?{urllib.parse.urlencode(values)}", timeout=60) as answer:
        return json.load(answer)["data"]


def span(address: str) -> tuple[str, float, float]:
    """The newest run, and the seconds between which it has numbers."""
    now = float(ask(address, "query", query="time()")["result"][1])
    found = ask(address, "query_range", query="dreamer_run_info", start=str(now - 10 * 86400), end=str(now), step="120")
    newest = max(found["result"], key=lambda series: series["values"][-1][0])
    run = newest["metric"]["run"]
    start, end = newest["values"][0][0] - 120, min(now, newest["values"][-1][0] + 120)
    fine = ask(address, "query_range", query=f'up{{run="{run}"}} == 1', start=str(start), end=str(end), step="5")
    times = [value[0] for series in fine["result"] for value in series["values"]]
    return run, min(times), max(times)


def legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template)


def results(address: str, dashboard: dict[str, Any], run: str, start: float, end: float) -> dict[int, list[Any]]:
    """Panel id -> its curves."""
    step = max(SCRAPE, round((end - start) / POINTS))
    found: dict[int, list[Any]] = {}
    for panel in dashboard["panels"]:
        curves = found[panel["id"]] = []
        for target in panel.get("targets", []):
            query = target["expr"].replace("$run", run)
            query = query.replace("$__rate_interval", f"{max(step + SCRAPE, 4 * SCRAPE)}s")
            times = {"start": str(start), "end": str(end), "step": str(step)}
            for series in ask(address, "query_range", query=query, **times)["result"]:
                labels = series["metric"]
                known = {round(at): number(value) for at, value in series["values"]}
                at = [round(start + n * step) for n in range(int((end - start) / step) + 1)]
                points = [[second, known.get(second)] for second in at]
                curves.append({"legend": legend(target["legendFormat"], labels), "labels": labels, "points": points})
    return found


def number(text: str) -> float | None:
    value = float(text)
    return value if abs(value) < float("inf") else None


def bundle(work: Path) -> tuple[str, str]:
    """page.jsx and all that it needs, as one script and one style sheet."""
    (work / "page.jsx").write_text((HERE / "page.jsx").read_text())
    options = ["--bundle", "--minify", "--loader:.svg=dataurl", "--define:global=window", "--log-level=error"]
    production = '--define:process.env.NODE_ENV="production"'
    command = ["npx", "esbuild", "page.jsx", *options, production, "--outfile=page.js"]
    subprocess.run(command, cwd=work, check=True, timeout=120)
    return (work / "page.js").read_text(), (work / "page.css").read_text()


def shoot(script: str, style: str, page: dict[str, Any], out: Path) -> None:
    """One picture."""
    height = 60 + 38 * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in page["dashboard"]["panels"])
    data = json.dumps(page).replace("<", "\\u003c")
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "page.html"
        # "</script" inside of the bundle would end it.
        code = script.replace("</script", "<\\/script")
        body = f'<div id="page"></div><script>window.PAGE = {data}</script><script>{code}</script>'
        html.write_text(
            f"<!doctype html><meta charset=utf-8><style>*{{box-sizing:border-box}}{style}</style><body>{body}</body>"
        )
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        size = [f"--window-size=1652,{height}", "--virtual-time-budget=15000", f"--screenshot={out.resolve()}"]
        options = ["--disable-background-networking", "--no-first-run", f"--user-data-dir={folder}/profile"]
        done = subprocess.run([*command, *options, *size, str(html)], capture_output=True, timeout=180, check=False)
        if done.returncode or not out.exists():
            sys.exit(f"chromium: {done.stderr.decode()[-2000:]}")
    Image.open(out).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prometheus", help="http://HOST:PORT")
    parser.add_argument("out", type=Path, help="folder for grafana-*.png")
    parser.add_argument("--only", help="name of one dashboard")
    parser.add_argument("--work", type=Path, default=Path("/tmp/render"), help="folder with node_modules")
    options = parser.parse_args()
    run, start, end = span(options.prometheus)
    script, style = bundle(options.work)
    for path in sorted(DASHBOARDS.glob(f"{options.only or '*'}.json")):
        dashboard = json.loads(path.read_text())
        found = results(options.prometheus, dashboard, run, start, end)
        page = {"dashboard": dashboard, "results": found, "from": start, "to": end}
        out = options.out / f"grafana-{path.stem}.png"
        shoot(script, style, page, out)
        print(f"{out}: {sum(bool(curves) for curves in found.values())} panels with data")


if __name__ == "__main__":
    main()
