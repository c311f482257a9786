"""`make monitor`: a real Prometheus of this machine watches a training that runs, with our rules; Ctrl-C ends it."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

from cluster.commands.options import MonitorOptions, parse
from cluster.config import ClusterConfig, is_host_and_port
from replay.errors import UserError
from replay.ports import free_port

SETTINGS = Path(__file__).parents[2] / "deploy" / "prometheus"
HOST = "127.0.0.1"  # nobody else is to see it
DRIVER = f"{HOST}:{ClusterConfig().metrics_port}"  # as prometheus.yml has it
INSTALL = "make monitoring-tools, or apt-get install prometheus"
READY_SECONDS = 60.0  # that Prometheus may take to read what it stored
END_SECONDS = 30.0  # and to write it
FIRST_LOOK = (  # is it learning, is it fast, is anything broken
    "dreamer_driver_score_points",
    "sum by (run) (rate(dreamer_learner_updates_total[1m]))",
    "sum by (run) (rate(dreamer_actor_frames_total[1m]))",
    "sum by (run, phase) (rate(dreamer_learner_phase_seconds_total[1m]))",
    "run_role:dreamer_workers_missing:sum",
)


def monitor(arguments: list[str]) -> int:
    """Watches until a signal; 1 if Prometheus ends by itself. Raises UserError where it cannot begin."""
    options = parse(MonitorOptions, arguments, command="monitor")
    if not is_host_and_port(options.target):
        raise UserError(f"--target must be HOST:PORT, not {options.target!r}")
    program = shutil.which("prometheus")
    if program is None:
        raise UserError(f"there is no prometheus on this machine: {INSTALL}")
    runs = runs_at(options.target)
    try:
        free_port(options.port)
    except UserError:
        raise UserError(f"port {options.port} is in use: another Prometheus? choose ARGS='--port 9091'") from None
    storage = options.storage.resolve()
    log = storage / "prometheus.log"
    with start(program, options.target, options.port, storage) as process:
        try:
            wait_until_ready(process, options.port, log)
            for line in greeting(f"http://{HOST}:{options.port}", runs, options.target, log):
                print(line, flush=True)
            process.wait()
            print(f"error: Prometheus has ended: {last_line(log)}", file=sys.stderr)
            return 1
        finally:
            end(process)


def runs_at(target: str) -> list[str]:
    """The runs that the driver at host:port knows. Raises UserError where none answers."""
    mend = "start one (make train-local), or say where: ARGS='--target HOST:PORT'"
    host, _, port = target.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", "/sd")
        found = json.loads(connection.getresponse().read())
        return sorted({entry["labels"]["run"] for entry in found})
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"no training answers on {target}: {mend}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"what answers on {target} is no training: {mend}") from error
    finally:
        connection.close()


def start(program: str, target: str, port: int, storage: Path) -> subprocess.Popen[bytes]:
    """Prometheus, with deploy/prometheus/prometheus.yml made to fit."""
    try:
        text = (SETTINGS / "prometheus.yml").read_text()
    except OSError as error:
        raise UserError(f"{SETTINGS} is missing: run this from a clone of the repository (make monitor)") from error
    text = text.replace(DRIVER, target).replace("rules/*.yml", str(SETTINGS / "rules" / "*.yml"))
    try:
        storage.mkdir(parents=True, exist_ok=True)
        (storage / "prometheus.yml").write_text(text)
        log = (storage / "prometheus.log").open("wb")
    except OSError as error:
        raise UserError(f"cannot write to {storage} ({error.strerror}): choose ARGS='--storage DIR'") from error
    command = [
        program,
        f"--config.file={storage / 'prometheus.yml'}",
        f"--storage.tsdb.path={storage / 'data'}",
        "--storage.tsdb.retention.time=90d",
        f"--web.listen-address={HOST}:{port}",
    ]
    with log:
        # A process group of its own: Ctrl-C ends it in order, through us.
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Returns when Prometheus answers. Raises UserError with what it said last if it does not."""
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, port, timeout=2)
        try:
            connection.request("GET", "/-/ready")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise UserError(f"Prometheus did not start: {last_line(log)} (all of it: {log})")


def greeting(address: str, runs: list[str], target: str, log: Path) -> list[str]:
    """Where to look."""
    graphs = {
        f"g{n}.{name}": value
        for n, expr in enumerate(FIRST_LOOK)
        for name, value in (("expr", expr), ("tab", "0"), ("range_input", "1h"))
    }
    return [
        f"Prometheus watches run {', '.join(runs) or '(none yet)'} at {target} and answers on {address}",
        f"  what runs, what is down    {address}/targets",
        f"  alerts                     {address}/alerts (what to do: docs/runbook.md)",
        f"  score, speed, who is lost  {address}/graph?{urlencode(graphs)}",
        f"  dashboards                 docker compose -f deploy/compose.yaml up grafana, or any Grafana: {address} is "
        "its data source, deploy/grafana/dashboards/*.json its pages",
        f"Ctrl-C ends it; what it saw stays in {log.parent}",
    ]


def end(process: subprocess.Popen[bytes]) -> None:
    """Lets Prometheus write what it knows."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def last_line(log: Path) -> str:
    """What Prometheus said last."""
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1][:300] if lines else "it said nothing"
