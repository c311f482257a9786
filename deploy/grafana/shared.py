"""Queries and panels that several dashboards share."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

from deploy.grafana.panels import RED, YELLOW, Line, graph, heat, reference, stat

# One argument a line would make these pages unreadable.
# fmt: off

PUBLISHED = Path(__file__).parents[2] / "docs/results/published.csv"  # mean over the published seeds
KNOTS = {  # frames between which a published curve is drawn straight
    "dreamerv2": (1_000_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000, 35_000_000, 40_000_000),
    "dreamerv3": (400_000, 2_000_000, 5_200_000, 10_000_000, 16_400_000, 26_000_000, 38_800_000),
}
RANDOM, HUMAN = 1.7, 30.5  # Breakout's customary scores of random play and of a human, full games
GPU, RAY, AGENT = "a GPU", "the Ray runtime", "a Ray cluster, whose dashboard agent shows its nodes"
EACH = "topk(12, sum by (instance) ({}))"  # of many processes; more lines than that say nothing
RATIO, SECONDS, BYTES, AGO = "percentunit", "s", "bytes", "dtdurations"


def published(method: str) -> str:
    """PromQL: the published score at as many frames as this run has now; straight between KNOTS, flat outside."""
    with PUBLISHED.open() as file:
        known = {int(row["frames"]): float(row["score"]) for row in csv.DictReader(file) if row["method"] == method}
    knots = [(frames, known[frames]) for frames in KNOTS[method]]
    terms = [f"{knots[0][1]:g}"]
    for (left, low), (right, high) in pairwise(knots):
        slope = (high - low) / (right - left)
        terms.append(f"{slope:.4g} * clamp(max(dreamer_driver_frames) - {left}, 0, {right - left})")
    return " + ".join(terms)


def rate(counter: str, *, by: str = "") -> str:
    """PromQL: how fast a counter grows in a second, of all processes together or of each."""
    return f"sum {f'by ({by}) ' if by else ''}(rate({counter}[I]))"


def age(timestamp: str, *, by: str = "") -> str:
    """PromQL: seconds since the newest."""
    return f"time() - max {f'by ({by}) ' if by else ''}({timestamp})"


def quantiles(histogram: str, window: str = "[I]") -> tuple[Line, ...]:
    """The middle of a histogram, and its ends."""
    inner = f"sum by (le) (rate({histogram}_bucket{window}))"
    return tuple(Line(f"histogram_quantile({q / 100}, {inner})", f"{q} % are below") for q in (10, 50, 90, 99))


SCORES = (
    Line("dreamer_driver_score_points", "mean of the last 100 games"),
    Line("dreamer_driver_score_max_points", "best of them"),
    reference(f"vector({RANDOM})", f"random play ({RANDOM})"), reference(f"vector({HUMAN})", f"a human ({HUMAN})"),
    reference(published("dreamerv2"), "DreamerV2, published, at as many frames"),
    reference(published("dreamerv3"), "DreamerV3, published, at as many frames"),
)
SCORE_GRAPH = graph(
    "Score", "Should rise over hours. Dashed: Breakout's published scores, of full games with sticky actions; ours are "
    "training games, which some presets end with the first lost life.", *SCORES, log=True).span(12).height(9)
PHASES = graph(
    "Where the learner's time goes", "Seconds per second. Nearly all should be the update (on a CPU its three parts: "
    "world_model, dream, behavior); wait means too few games.", Line(rate("dreamer_learner_phase_seconds_total",
    by="phase"), "{{phase}}"), stack=True).unit(RATIO).min(0)
WAITS = graph(
    "Who waits for whom", "Share of time held back. One side should wait: the other sets the pace. On few cores actors "
    "wait for the learner, on a GPU the learner should wait below 10 %.",
    Line("avg(rate(dreamer_actor_wait_seconds_total[I]))", "actors wait for the learner"),
    Line("sum(rate(dreamer_learner_wait_seconds_total[I]))", "learner waits for the actors")).unit(RATIO).min(0).max(1)
RATIOS = graph(
    "Replay ratio", "Trained steps per played step since training began. Should be within 2 % of the one wanted after "
    "some minutes; lower: the learner is slow, higher: actors are gone.", Line("dreamer_replay_ratio", "actual"),
    reference("dreamer_replay_ratio_wanted", "wanted")).min(0)
SIGHT = graph(
    "Does the model see and foresee", "All should come near 1: the ball's pixels first (minutes), then rewards and "
    "lost lives. Moving pixels below 0.6 after 2,000 updates: no policy can play.",
    Line("dreamer_learner_moved_recall_ratio", "moving pixels seen"),
    Line("dreamer_learner_reward_recall_ratio", "rewards foreseen"),
    Line("dreamer_learner_terminal_recall_ratio", "ends foreseen"),
    Line('dreamer_learner_ball_recall_ratio{ahead="0"}', "balls seen")).unit(RATIO).min(0).max(1)
POLICY_ENTROPY = graph(
    "Entropy of the policy", "In dreams, nats. Should fall slowly from its most (four actions: 1.39). Below 0.05 "
    "early: collapsed; at its most for hours: it learns nothing.",
    Line("dreamer_learner_actor_entropy_nats", "entropy"),
    reference("vector(1.386)", "four actions at random (1.39)")).min(0)
SCORE_HEAT = heat(
    "Scores", "How many games ended with how many points: the colours should climb.",
    "dreamer_actor_episode_score_points")
SAMPLE_AGE = graph(
    "Age of the experience", "Updates since the policy that played the batch: half of all updates until the replay is "
    "full, then constant. 0 for long: actors get no weights.",
    Line("dreamer_learner_sample_age_updates", "updates")).min(0)
RETURNS = graph(
    "Returns in dreams", "Squashed reward. The two should be close, and rise with the score; if they rise alone, the "
    "policy exploits the model.", Line("dreamer_learner_imagined_return", "return of dreams"),
    Line("dreamer_learner_slow_value", "what the target critic expects"))
ABSENT = ("sum by (role) (dreamer_workers_expected) - on (role) "
          "(sum by (role) (up) or 0 * sum by (role) (dreamer_workers_expected))")
MISSING = stat(
    "Missing", "Processes that should run and do not answer. Should be 0; a dead one is started again within seconds.",
    f"sum({ABSENT})", limits=((1, RED),), only=RAY).span(2)
MESSAGES = graph(
    "Last word of each worker", "Seconds ago. They report once a second, and may be silent for half a minute while a "
    "checkpoint is written; longer: the process hangs.", Line(age("dreamer_driver_message_timestamp_seconds",
    by="worker"), "{{worker}}"), limits=((60, RED),)).unit(SECONDS).min(0)
RESTARTS = graph(
    "Starts after a death", "Processes that died and were started again. Should stay flat; the reasons stand in "
    "log.txt.", Line("sum by (role) (dreamer_worker_restarts_total)", "{{role}}"), only=RAY).min(0)
SPEED = graph(
    "Speed of learning", "Updates of the world model in a second. Should be constant after the first minutes.",
    Line(rate("dreamer_learner_updates_total"), "updates a second")).unit("updates/s").min(0)
PLAYING = graph(
    "Speed of play", "Policy steps in a second, all games together (a step is four frames). Random play fills the "
    "replay fast, then the replay ratio holds the games back.", Line(rate("dreamer_actor_policy_steps_total"),
    "policy steps a second")).unit("steps/s").min(0)
CHECKPOINT_AGE = stat(
    "Last save", "How long ago the agent was saved: at most train.checkpoint_every (300 s) and some.",
    age("dreamer_learner_checkpoint_timestamp_seconds"), limits=((900, YELLOW), (1800, RED))).unit(AGO)
NONFINITE = stat(
    "Bad updates", "Updates skipped in the last hour because something was not finite. Should be 0; single ones do no "
    "harm.", "sum(increase(dreamer_learner_nonfinite_updates_total[1h]))", limits=((1, YELLOW), (10, RED)))
