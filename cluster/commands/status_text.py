"""What `status` says of a run, in words."""

from __future__ import annotations

from typing import Any

from cluster.run.origin import Origin
from cluster.run.progress import who_waits

Report = dict[str, Any]


def lines_of(report: Report) -> list[str]:
    """A dozen lines."""
    dream_of = Origin(**report["dream_of"]) if report["dream_of"] else None
    wanted, ratio, replay = report["replay_ratio_wanted"], report["replay_ratio"], report["replay_steps"]
    waits = (report["learner_wait"], report["actor_wait"])
    saved, warnings, metrics = report["checkpoint"], report["warnings"], report["metrics"]
    speed = report["updates_per_second"]
    table = {
        "run": f"{report['run']} ({report['id']}), {report['env']}"
        + (f", runtime {report['runtime']}" if report["runtime"] else ""),
        "state": state_in_words(report),
        "progress": f"policy step {report['policy_step']:,} (frame {report['frame']:,}), update {report['update']:,}",
        "speed": "-"
        if speed is None or report["policy_steps_per_second"] is None
        else f"{speed:.1f} updates/s, {report['policy_steps_per_second']:.0f} policy steps/s (last 10 minutes)",
        "score": score_in_words(report["score"]),
        "replay": ("ratio -" if ratio is None else f"ratio {ratio:.2f} of {wanted:g}")
        + (f", {replay:,} policy steps" if replay is not None else ""),
        "waiting": "-" if None in waits else who_waits(*waits),
        "checkpoint": "none yet"
        if saved is None
        else f"{saved['file']}, {ago(saved['seconds'])}, {saved['bytes'] / 1e6:.1f} MB",
        "world": in_words(report["world_model"]),
        "policy": in_words(report["policy"]),
        "warnings": f"{warnings['count']} in log.txt"
        + (f", the last: {warnings['last'][-1]}" if warnings["last"] else ""),
        "metrics": f"{metrics['address'] or 'unknown'}, {metrics['targets']} process(es) listed",
    }
    if dream_of:  # in which nobody plays, and nobody waits for anybody
        kept = "-" if replay is None else f"{replay:,} policy steps, as they were"
        table |= {"replay": kept, "world": f"that of {dream_of}, as it was"}
        del table["score"], table["waiting"]
    return [f"{name:11}{text}" for name, text in table.items()]


def state_in_words(report: Report) -> str:
    since = "" if report["seconds"] is None else duration(report["seconds"])
    again = "dream" if report["dream_of"] else "train"
    match report["state"]:
        case "running":
            row = report["last_row_seconds"]
            news = "no news yet" if row is None else f"last news {ago(row)}"
            return f"running{f' for {since}' if since else ''}, {news}"
        case "silent":
            return f"its process is there, but has been silent for {since}: it hangs, or the machine is overloaded"
        case "ended":
            return f"ended {since} ago: {report['why']}"
        case "failed":
            why = report["why"] or "the end of log.txt may tell why"
            return f"failed {since} ago: {why.rstrip('.')}; go on with {again} --resume"
        case "killed":
            return f"killed, last news {since + ' ago' if since else 'none'}: go on with {again} --resume"
        case _:
            return f"does not run, as far as its files tell; last news {since + ' ago' if since else 'none'}"


def score_in_words(score: Report | None) -> str:
    if score is None:
        return "no game is over yet"
    text = f"{score['mean']:.2f}, mean of the last {score['games']} games (best {score['max']:g})"
    if score["before"] is None:
        return text
    change = score["mean"] - score["before"]
    direction = "level" if abs(change) < score["noise"] else "rising" if change > 0 else "falling"
    return f"{text}; {score['before']:.2f} in as many before: {direction}"


def in_words(values: dict[str, float]) -> str:
    names = (f"{name.removeprefix('sight/').replace('_', ' ')} {value:.3g}" for name, value in values.items())
    return ", ".join(names) or "-"


def ago(seconds: float) -> str:
    return f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """123.4 -> 2 min 3 s; the two largest units."""
    whole = int(max(0.0, seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole % 60, "s")]
    first = next((n for n, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])
