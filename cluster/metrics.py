"""Every Prometheus metric, declared once: CATALOGUE (the tables are in metrics_run.py and metrics_learner.py)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from cluster.metrics_learner import LEARNER_METRICS
from cluster.metrics_run import RUN_METRICS
from cluster.metrics_spec import Spec
from replay.config import UserError

CATALOGUE: tuple[Spec, ...] = (*RUN_METRICS, *LEARNER_METRICS)


class Metrics:
    """The metrics of one training run, as its driver sees it."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.policy_steps = Counter("dreamer_actor_policy_steps", "Policy steps played", registry=registry)
        self.frames = Counter("dreamer_actor_frames", "Emulator frames played", registry=registry)
        self.episodes = Counter("dreamer_actor_episodes", "Games finished", registry=registry)
        self.score = Gauge("dreamer_actor_score_points", "Mean score of the last 100 games", registry=registry)
        self.actor_wait = Counter("dreamer_actor_wait_seconds", "Seconds actors waited", ["on"], registry=registry)
        self.restarts = Counter("dreamer_worker_restarts", "Workers started again", ["role"], registry=registry)
        self.expected = Gauge("dreamer_workers_expected", "Processes that should run", ["role"], registry=registry)
        self.updates = Counter("dreamer_learner_updates", "Updates of the world model", registry=registry)
        self.nonfinite = Counter("dreamer_learner_nonfinite_updates", "Updates skipped: not finite", registry=registry)
        self.learner_wait = Counter(
            "dreamer_learner_wait_seconds", "Seconds the learner waited", ["on"], registry=registry
        )
        self.learner = Gauge("dreamer_learner_value", "Losses and norms, last mean", ["name"], registry=registry)
        self.replay_steps = Gauge("dreamer_replay_size_steps", "Policy steps in the replay", registry=registry)
        self.replay_ratio = Gauge("dreamer_replay_ratio", "Trained steps per played step", registry=registry)
        self.checkpoint_time = Gauge(
            "dreamer_learner_checkpoint_timestamp_seconds", "Time of the last checkpoint", registry=registry
        )

    def serve(self, host: str, port: int) -> str:
        """Starts the HTTP server on a thread -> its address. Raises UserError where the port is taken."""
        try:
            server, _ = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise UserError(
                f"port {port} for metrics is in use ({error.strerror}): another run? choose --cluster.metrics-port 0"
            ) from error
        return f"http://{host}:{server.server_port}/metrics"
