"""The run's records: policy steps, frames and updates are told apart, and the ratio and the waiting are right."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from actors.episodes import EpisodeReport
from cluster.commands.invocation import say_end
from cluster.config import Config
from cluster.console.signals import Stop
from cluster.messages import ActorMessage, LearnerMessage
from cluster.presets import cpu
from cluster.run import directory as run_dir
from cluster.run.progress import who_waits
from cluster.run.records import RunLog
from cluster.training import ActorNews
from replay import ReplayStats
from tests.cluster.tiny import rows

incarnations = itertools.count()


def make_config() -> Config:
    config = cpu()
    cluster = replace(config.cluster, host="127.0.0.1", metrics_port=0)
    return replace(config, train=replace(config.train, log_every=1e9), cluster=cluster)


def actor(played: int, *, seconds: float = 1.0, wait: float = 0.0, scores: tuple[float, ...] = ()) -> ActorMessage:
    """The first message of a new incarnation, all of whose steps are confirmed."""
    episodes = [EpisodeReport(0, score, 100, 3, 5.0) for score in scores]
    return ActorMessage(0, next(incarnations), played, episodes, 3, seconds, wait, played, 0)


def learner(update: int, updates: int, *, wait: float = 0.0, **metrics: float) -> LearnerMessage:
    return LearnerMessage(update, updates, metrics, 1.0, wait, ReplayStats(500, 60, 70, 80, 9000), {}, {})


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    config = make_config()
    return RunLog(config, run_dir.create(tmp_path / "run", config), Console(file=io.StringIO()))


def test_frames_are_policy_steps_times_frame_skip_and_random_play_counts(log: RunLog, tmp_path: Path) -> None:
    log.handle(actor(4000))
    log.handle(learner(0, 0))
    log.handle(actor(1600))
    log.handle(learner(100, 100, model_loss=2.0))
    log.write_row()
    (row,) = rows(tmp_path / "run" / "metrics.jsonl")
    assert (row["policy_step"], row["frame"], row["update"]) == (5600, 22400, 100)
    text = log.meter.page().decode()
    assert "dreamer_driver_policy_steps 5600.0" in text
    assert "dreamer_driver_frames 22400.0" in text
    assert "dreamer_driver_updates 100.0" in text


def test_the_replay_ratio_counts_from_the_first_update(log: RunLog) -> None:
    log.handle(actor(4000))
    assert log.replay_ratio() is None
    log.handle(learner(1, 1))
    log.handle(actor(900))  # played at random before that update, reported late
    log.handle(learner(2, 1))
    log.handle(actor(1600))
    log.handle(learner(102, 100))
    # 100 updates of 8 x 16 steps on 1600 played steps.
    assert log.replay_ratio() == pytest.approx(100 * 128 / 1600)


def test_a_learner_that_falls_back_to_its_checkpoint_does_not_spoil_the_ratio(log: RunLog) -> None:
    log.handle(learner(1, 1))
    log.handle(actor(1600))
    log.handle(learner(100, 99))
    log.handle(learner(60, 10))
    assert log.update == 60
    log.handle(actor(160))
    log.handle(learner(70, 10))
    assert log.replay_ratio() == pytest.approx(10 * 128 / 160)


def test_metrics_are_means_over_updates_and_waits_are_shares(log: RunLog, tmp_path: Path) -> None:
    log.handle(learner(1, 1, wait=0.5, kl=1.0))
    log.handle(learner(4, 3, wait=0.1, kl=5.0))
    log.handle(actor(10, seconds=2.0, wait=1.5))
    log.write_row()
    (row,) = rows(tmp_path / "run" / "metrics.jsonl")
    assert row["kl"] == pytest.approx(4.0)
    assert row["learner_wait"] == pytest.approx(0.3)
    assert row["actor_wait"] == pytest.approx(0.75)


def test_the_score_is_that_of_the_last_hundred_games(log: RunLog, tmp_path: Path) -> None:
    log.handle(actor(10, scores=(1000.0,)))
    log.handle(actor(10, scores=(2.0,) * 99 + (7.0,)))
    assert log.score() == pytest.approx((99 * 2 + 7) / 100)
    log.close()
    episodes = rows(tmp_path / "run" / "episodes.jsonl")
    assert len(episodes) == 101
    assert {"time", "actor", "policy_step", "score", "length", "policy_version"} <= set(episodes[0])


def test_a_game_whose_score_is_no_number_spoils_neither_mean_nor_file(
    log: RunLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.handle(actor(10, scores=(4.0, float("nan"), float("inf"))))
    log.close()
    assert log.score() == 4.0
    assert [row["score"] for row in rows(tmp_path / "run" / "episodes.jsonl")] == [4.0, None, None]
    (said,) = [record.getMessage() for record in caplog.records if "ended with score" in record.getMessage()]
    assert "a game of ALE/Breakout-v5 ended with score nan (actor 0, game 0, 100 policy steps)" in said


def test_the_records_know_whether_the_learner_could_save(log: RunLog) -> None:
    assert log.unsaved == ""
    log.handle(learner(5, 5)._replace(unsaved="No space left on device"))
    assert log.unsaved == "No space left on device"
    log.handle(learner(6, 1))
    assert log.unsaved == ""


@pytest.mark.parametrize(
    ("saved", "unsaved", "code", "words"),
    [
        (9, "", 143, "; update-000000009 saved in"),
        (5, "", 1, "could NOT be saved (the learner did not save at the end); update-000000005 saved in"),
        (None, "", 1, "could NOT be saved (the learner did not save at the end); there is no checkpoint in"),
        (9, "No space left", 1, "could NOT be saved (No space left); update-000000009 saved in"),
    ],
)
def test_the_last_line_tells_what_is_saved_and_the_exit_code_whether_all_is(
    log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: int | None, unsaved: str, code: int, words: str
) -> None:
    """Of both runtimes; a learner that died before its last save has no say in it. The run was ended by SIGTERM."""
    run = run_dir.open_run(tmp_path / "run")[0]
    log.handle(learner(9, 9)._replace(unsaved=unsaved))
    if saved is not None:
        run.checkpoints.mkdir()
        (run.checkpoints / f"update-{saved:09d}.pt").touch()
    monkeypatch.setattr(Stop, "install", lambda self: None)
    stop = Stop()
    stop.signal = 15
    assert say_end(run, log, "signal 15", stop) == code
    assert words in log.console.file.getvalue()


def test_a_row_tells_where_the_lives_of_the_last_games_were_lost(log: RunLog, tmp_path: Path) -> None:
    log.handle(actor(10))
    log.write_row()
    game = EpisodeReport(0, 9.0, 100, 3, 5.0, lives=(0, 2, 4, 6, 5), lost=4)  # a limit ended the last life
    log.handle(actor(10)._replace(episodes=[game]))
    log.write_row()
    before, after = rows(tmp_path / "run" / "metrics.jsonl")
    assert before["hazard_0"] is before["hazard_4"] is None
    assert after["hazard_0"] == pytest.approx(1 / 5) and after["hazard_4"] == pytest.approx(1 / 3)
    assert 'dreamer_driver_lives_lost_ratio{rewards="0"} 0.2' in log.meter.page().decode()
    (written,) = rows(tmp_path / "run" / "episodes.jsonl")
    assert written["lives"] == [0, 2, 4, 6, 5] and written["lost"] == 4


def test_processes_that_should_run_are_counted_by_role(log: RunLog) -> None:
    log.expect(["learner", "actor-0", "actor-1"])
    log.expect(["learner", "actor-0", "actor-1", "actor-10"])
    text = log.meter.page().decode()
    assert 'dreamer_workers_expected{role="actor"} 3.0' in text and 'expected{role="learner"} 1.0' in text
    log.expect(["learner"])
    assert "actor" not in "".join(re.findall("dreamer_workers_expected.*", log.meter.page().decode()))


def test_films_and_strips_go_to_tensorboard(log: RunLog, tmp_path: Path) -> None:
    """A film is a GIF of all its frames."""
    frames = np.zeros((5, 20, 30, 3), np.uint8)
    frames[:, :, :, 0] = np.arange(0, 250, 50)[:, None, None]
    message = learner(1, 1)._replace(images={"strip": frames[0], "film": frames})
    log.handle(message)
    log.close("")
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert set(found.Tags()["images"]) == {"strip", "film"}
    (event,) = found.Images("film")
    film = Image.open(io.BytesIO(event.encoded_image_string))
    assert (event.width, event.height, film.format, film.n_frames) == (30, 20, "GIF", 5)


def test_an_actor_that_played_nothing_still_has_its_policy() -> None:
    news = ActorNews(0, 0)
    news.version = 7
    assert [news.message([]).policy_version for _ in range(2)] == [7, 7]


def test_the_bottleneck_is_named() -> None:
    assert who_waits(0.62, 0.1) == "learner waits for actors 62%"
    assert who_waits(0.1, 0.9) == "actors wait for learner 90%"
