"""The run's records: files, TensorBoard, Prometheus and the progress line, all fed by the same messages."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from actors.episodes import EpisodeReport
from actors.game import resolve
from cluster.config import Config
from cluster.errors import RunDirLost
from cluster.look.hazard import watched
from cluster.messages import ActorMessage, LearnerMessage, Message, Note, Target
from cluster.run import directory as run_dir
from cluster.run import state as run_state
from cluster.run.books import Books
from cluster.run.directory import Run
from cluster.run.files import Curves, Lines
from cluster.run.interval import Interval
from cluster.run.lock import Keeper
from cluster.run.progress import SCORES, Progress, dream_line, progress_line
from cluster.run.view import RunView

log = logging.getLogger("run")


class RunLog:
    """Adds messages up and writes them down. `policy_step` and `update` count on from a checkpoint."""

    def __init__(
        self,
        config: Config,
        run: Run,
        console: Console,
        *,
        runtime: str = "ray",
        policy_step: int = 0,
        update: int = 0,
        keeper: Keeper | None = None,
    ) -> None:
        self.config, self.console = config, console
        self.policy_step, self.update = policy_step, update
        self._view = RunView(config, run, runtime=runtime)
        self.meter, self.address = self._view.meter, self._view.address
        self._run, self._dreams = run, runtime == run_state.DREAM
        self._keeper = keeper
        self._state = run_state.begin(run.path, runtime=runtime, metrics=self.address)
        self._frame_skip = resolve(config.env).frame_skip
        self._scores: deque[float] = deque(maxlen=SCORES)
        self._said_not_finite = False
        self._games: deque[EpisodeReport] = deque(maxlen=SCORES)  # the same games
        self._books = Books(run.path / "actors.json")
        self._acting_version = 0
        self.unsaved = ""  # why the learner's last try to save failed; "" = it did not
        self._training = False
        self._since_update: tuple[int, int] | None = None  # (update, policy step) when training (re)started
        self._interval = Interval()
        self._row: dict[str, Any] = {}  # the last row of metrics.jsonl
        self._sight: dict[str, float] = {}  # for the next one
        self._metrics_file = Lines(run.path / "metrics.jsonl")
        self._episodes_file = Lines(run.path / "episodes.jsonl")
        self._curves = Curves(run.path / "tensorboard")
        self._live = Live("", console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
        if self._live:
            self._live.start()

    def handle(self, message: Message) -> None:
        """Takes note of one message; writes a row when a logging interval is over. Raises RunDirLost."""
        self.look_after_directory()  # before anything is written there
        match message:
            case ActorMessage():
                self._actor(message)
            case LearnerMessage():
                self._learner(message)
            case Note():
                log.warning("%s: %s", message.role, message.text)
            case Target():
                self._view.announce(message)
        self._view.progress(self.progress())
        if self._interval.seconds() >= self.config.train.log_every:
            self.write_row()
        if self._live:
            self._live.update(Text(self._progress_line()))

    def begin_interval(self) -> None:
        """The logging interval begins now: what came before it is in no speed."""
        self._interval = Interval()

    def expect(self, workers: Iterable[str]) -> None:
        """Takes note of which processes should be running from now on: "learner", "replay", "actor-3" ..."""
        self._view.expect(list(workers))

    def restarted(self, worker: str) -> None:
        """Takes note of a process that is started again."""
        self.meter.add("dreamer_worker_restarts_total", 1, worker.partition("-")[0])

    def say(self, text: str) -> None:
        """One line for the person who watches."""
        log.info(text)
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def look_after_directory(self) -> None:
        """Makes a run directory that was deleted or moved anew, and says so. Raises RunDirLost."""
        if self._keeper and (news := self._keeper.look()):
            self.say(news)
            self._metrics_file.reopen()
            self._episodes_file.reopen()
            self._curves.begin_anew()
            run_state.write(self._run.path, self._state)
            self._view.write()

    def close(self, why: str = "", *, error: str = "") -> None:
        """Writes what is left, and why training is over; "" = it failed, of `error`."""
        try:
            self.look_after_directory()
        except RunDirLost as lost:
            error = error or str(lost)
        ours = run_dir.is_ours(self._run)
        if ours and (self._interval.updates or self._interval.played):
            self.write_row()
        if self._live:
            self._live.stop()
        self._curves.close()
        self._view.close()
        if ours:
            run_state.end(self._run.path, why, error)
        self._metrics_file.close()
        self._episodes_file.close()

    def progress(self) -> Progress:
        """How far the run is, as of now."""
        frame = self.policy_step * self._frame_skip
        return Progress(self.policy_step, frame, self.update, self._scores, self.replay_ratio())

    def score(self) -> float | None:
        """Mean of the last finished games; None before the first."""
        return self.progress().score()

    def _hazard(self) -> dict[str, float | None]:
        """Of the same games the share of lives that were lost with so many rewards, see cluster/look/hazard.py."""
        found = watched(self._games)
        for rewards, lost in found.items():
            if lost is not None:
                self.meter.set("dreamer_driver_lives_lost_ratio", lost, str(rewards))
        return {f"hazard_{rewards}": lost for rewards, lost in found.items()}

    def replay_ratio(self) -> float | None:
        """Trained steps per played step since training began in this process."""
        if self._since_update is None:
            return None
        update, policy_step = self._since_update
        played = self.policy_step - policy_step
        replay = self.config.replay
        return (self.update - update) * replay.batch * replay.length / played if played else None

    def _actor(self, message: ActorMessage) -> None:
        played = self._books.take(message)
        self.policy_step += played
        self._interval.played += played
        self._interval.actor_seconds += message.seconds
        self._interval.actor_wait += message.wait_seconds
        self._acting_version = max(message.policy_version, 0)
        self._view.heard(f"actor-{message.actor}")
        for episode in message.episodes:
            if math.isfinite(episode.score):  # else one such game would hide the scores of a hundred
                self._scores.append(episode.score)
                self._games.append(episode)
            else:
                self._not_finite(message.actor, episode)
            line = {"time": time.time(), "actor": message.actor, "policy_step": self.policy_step}
            self._episodes_file.write(line | episode._asdict())
            self._curves.add_scalar("episode/score", episode.score, self.policy_step)
            self._curves.add_scalar("episode/length_policy_steps", episode.length, self.policy_step)

    def _not_finite(self, actor: int, episode: EpisodeReport) -> None:
        """Says which game brings rewards that are no numbers: once."""
        if not self._said_not_finite:
            self._said_not_finite = True
            log.warning(
                "a game of %s ended with score %s (actor %d, game %d, %d policy steps): a reward of it is not finite; "
                "such scores are null in episodes.jsonl and in no mean",
                *(self.config.env.id, episode.score, actor, episode.game, episode.length),
            )

    def _learner(self, message: LearnerMessage) -> None:
        # Counted from the second message with updates on: at the first one the actors' reports of the fast random play
        # before it are still on their way.
        if message.update < self.update or (self._training and self._since_update is None):
            self._since_update = (message.update, self.policy_step)  # it has begun, or fallen back to a checkpoint
        self._training = self._training or message.updates > 0
        self.unsaved = message.unsaved
        self.update = message.update
        self._interval.add(message)
        self._view.heard("learner")
        for name, image in message.images.items():
            if image.ndim == 4:
                self._curves.add_film(name, image, self._x())
            else:
                self._curves.add_image(name, image, self._x())
        for name, value in message.sight.items():
            self._curves.add_scalar(f"sight/{name}", value, self._x())
        self._sight |= message.sight

    def write_row(self) -> None:
        """Closes the logging interval: one row of metrics.jsonl, one point on every curve."""
        row: dict[str, Any] = {
            "time": time.time(),
            "update": self.update,
            "policy_step": self.policy_step,
            "frame": self.policy_step * self._frame_skip,
            "score": self.score(),
            **self._hazard(),
            "replay_ratio": self.replay_ratio(),
            "acknowledged_steps": self._books.acknowledged(),  # by actors started in this process
            "open_steps": self._books.open_steps(),  # of these actors: neither confirmed nor dropped
            "acting_policy_age": self.update - self._acting_version,  # updates
            **self._interval.row(),
            **{f"sight/{name}": value for name, value in self._sight.items()},
        }
        self._sight = {}
        self._row = row
        self._interval = Interval(self._interval.replay_steps)
        self._metrics_file.write(row)
        self._books.save()
        for name, value in row.items():
            if isinstance(value, float) and name != "time" and not name.startswith("sight/"):
                self._curves.add_scalar(f"train/{name}", value, self._x())
        if not self._live:
            self.say(self._progress_line())

    def _x(self) -> int:
        """Where a point of a curve stands: policy steps; of a dream, in which nobody plays, updates."""
        return self.update if self._dreams else self.policy_step

    def _progress_line(self) -> str:
        if self._dreams:
            return dream_line(self.progress(), self._row)
        return progress_line(self.progress(), self._row, wanted=self.config.replay.replay_ratio)
