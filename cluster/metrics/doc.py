"""docs/metrics.md, made from the catalogue: python -m cluster.metrics.doc > docs/metrics.md"""

from __future__ import annotations

from cluster.metrics import CATALOGUE
from cluster.metrics.spec import ACTOR, DRIVER, EVERY, HISTOGRAM, LEARNER, MAILBOX, REPLAY, Spec

HEAD = """# Every metric

Made from the catalogue in `cluster/metrics/run.py` and `cluster/metrics/learner.py` by
`python -m cluster.metrics.doc > docs/metrics.md`; a test compares the two.

**Where they are.** Every process shows its own at `/metrics` on a free port. The driver has the one fixed port
(`--cluster.metrics-port`, 9108; 0 = any free one, -1 = no metrics at all) and says there where the others are:

| path | answers |
|---|---|
| `/metrics` | the driver's own metrics |
| `/sd` | all processes, for Prometheus' `http_sd_configs`; the same list is in `RUN/prometheus/targets.json` |
| `/healthz` | `ok`, or status 503 and one line that names the workers that do not answer |

**Labels.** Prometheus adds `run`, `role` (driver, learner, actor, replay, board) and `instance` (`learner`, `actor-3`).
A worker that was started again keeps its instance, so its series go on; a dead one stays listed until then.
`--runtime inline` is one process with all metrics: role and instance are `inline`.

**Units.** A policy step is one action of one game, a frame one emulator frame, an update one gradient step of the
world model.
Counters begin at 0 with their process: look at rates, `rate(...[1m])`. A gauge that is not there is not known yet.

**Healthy** says what good looks like; "here" is the run of `deploy/agents/breakout-cpu` (preset `cpu`, two cores, one
hour), for a learner's number the 5th to the 95th percentile of its log after 300 updates.
"""

CHAPTERS = (
    (DRIVER, "Run and workers", "Shown by the driver."),
    (ACTOR, "Acting", "Shown by every actor process, of its own games."),
    (REPLAY, "Replay", "Shown by the process that holds the replay."),
    (LEARNER, "Learner", "Shown by the learner. Numbers of the update are means over the updates of about a second."),
    (
        MAILBOX,
        "Mailbox",
        "Shown by the mailbox between driver, learner and actors. In metrics it is `board`.",
    ),
    (EVERY, "Every process", "Shown by each process, of itself; without the processes of an inline run's games."),
)


def document() -> str:
    """The whole page."""
    parts = [HEAD]
    for by, title, note in CHAPTERS:
        parts.append(f"\n## {title}\n\n{note}\n")
        parts += [entry(spec) for spec in CATALOGUE if spec.by == by]
    return "".join(parts)


def entry(spec: Spec) -> str:
    """One metric."""
    labels = ", ".join(name + (f"={'|'.join(values)}" if values else "") for name, values in spec.labels.items())
    facts = [spec.kind, spec.unit or "a pure number", *([f"only with {spec.only}"] if spec.only else [])]
    lines = [f"\n### `{spec.name}`\n", f"{', '.join(facts)}" + (f"; labels `{labels}`" if labels else "") + "  "]
    lines.append(f"{sentence(spec.help)}  ")
    if spec.kind == HISTOGRAM:
        lines.append(f"Buckets up to {', '.join(f'{bound:g}' for bound in spec.buckets)}, and more.  ")
    lines.append(f"Healthy: {spec.healthy}." + ("  " if spec.mend else ""))
    if spec.mend:
        lines.append(f"Else: {spec.mend}.")
    return "\n".join(lines) + "\n"


def sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    print(document(), end="")
