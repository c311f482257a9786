"""The catalogue of metrics, what is made of it, and where the processes of a run are found."""

from __future__ import annotations

import ast
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cluster.assemble import env_spec, make_agent
from cluster.look.gallery import film, look_at
from cluster.messages import LearnerMessage, Target
from cluster.metrics import CATALOGUE, SPECS, Growth, Meter
from cluster.metrics.doc import document
from cluster.metrics.http import pages_of, serve
from cluster.metrics.learner import SEEN, VALUES
from cluster.metrics.recorders import LearnerRecorder, ReplayRecorder
from cluster.metrics.spec import COUNTER, EVERY, GAUGE, HISTOGRAM, LEARNER, REPLAY, ROLES
from cluster.metrics.targets import Targets, answers_now
from cluster.presets import cpu
from dreamer.insight import RATIOS
from learner.clock import Clock
from replay import ReplayStats, UserError
from replay.config import ReplayConfig
from tests.cluster.scrape import base, check_sane, get, missing, scrape, targets, total
from tests.cluster.tiny import ROOT, finish, start, train_options, update_of, wait_for
from tests.dreamer.tiny import random_batch

CPU = torch.device("cpu")


# --- The catalogue ---


def test_every_metric_is_declared_once_and_well() -> None:
    assert len(SPECS) == len(CATALOGUE) > 80
    for spec in CATALOGUE:
        assert re.fullmatch("dreamer_[a-z0-9_]+", spec.name)
        assert spec.by in (*ROLES, EVERY) and spec.kind in (COUNTER, GAUGE, HISTOGRAM)
        assert (spec.kind == COUNTER) == spec.name.endswith("_total"), spec.name
        assert (spec.kind == HISTOGRAM) == bool(spec.buckets), spec.name
        assert len(spec.labels) <= 1 or spec.name == "dreamer_run_info", "Meter.add starts counters of one label"
        assert spec.help and spec.healthy and not {"", "."} & {spec.help[-1:], spec.healthy[-1:], spec.mend[-1:] or "x"}
        for unit in ("seconds", "bytes", "steps", "updates", "points", "nats", "ratio", "pixels"):
            if re.search(rf"_{unit}(_total)?$", spec.name):
                assert unit == "ratio" or unit in spec.unit, spec.name
    assert set(SEEN) == set(RATIOS)


def test_the_page_about_metrics_is_that_of_the_catalogue() -> None:
    written = (ROOT / "docs" / "metrics.md").read_text()
    assert written == document(), "make it again: python -m cluster.metrics.doc > docs/metrics.md"


def test_every_metric_that_the_code_records_is_declared_and_the_other_way_round() -> None:
    recorded: set[str] = set()
    for path in (ROOT / "cluster").rglob("*.py"):
        if path.parts[-2:] not in (("metrics", "run.py"), ("metrics", "learner.py")):
            strings = (n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant))
            recorded |= {s for s in strings if isinstance(s, str) and re.fullmatch("dreamer_[a-z0-9_]+", s)}
    values = {spec.name for spec in (*VALUES.values(), *SEEN.values())}  # recorded by their short names
    assert recorded <= set(SPECS)
    assert set(SPECS) - values <= recorded


def test_a_counter_starts_at_nought_and_a_gauge_with_nothing() -> None:
    meter = Meter(LEARNER)
    page = meter.page().decode()
    assert "dreamer_learner_updates_total 0.0" in page
    assert 'dreamer_learner_phase_seconds_total{phase="dream"} 0.0' in page
    assert "dreamer_learner_kl_nats" not in page and "_created" not in page
    meter.set("dreamer_learner_kl_nats", 2.5)
    assert "dreamer_learner_kl_nats 2.5" in meter.page().decode()
    with pytest.raises(KeyError):
        meter.add("dreamer_actor_policy_steps_total")  # another process's
    Meter().add("dreamer_no_such_metric")  # off: counts nothing
    assert Meter().page() == b""


def test_what_grows_elsewhere_is_never_counted_back() -> None:
    growth = Growth(10)
    assert [growth.to(count) for count in (15, 15, 3, 5)] == [5, 0, 0, 2]


# --- What is recorded ---


def message(updates: int, **means: float) -> LearnerMessage:
    return LearnerMessage(9, updates, {"nonfinite": 0.0, "policy_age_updates": 4.0} | means, 1.0, 0.25, None, {}, {})


def test_ratios_remember_rare_events() -> None:
    meter = Meter(LEARNER)
    recorder = LearnerRecorder(meter)
    recorder.message(message(10, kl=3.0, reward_hits=0.01, reward_steps=0.02, reward_guesses=0.0), {"dream": 0.5})
    for _ in range(3):  # batches without any reward
        recorder.message(message(10, kl=4.0, reward_hits=0.0, reward_steps=0.0, reward_guesses=0.0), {"dream": 0.5})
    page = meter.page().decode()
    assert "dreamer_learner_reward_recall_ratio 0.5" in page
    assert "dreamer_learner_reward_precision_ratio" not in page  # nothing was foreseen: unknown, not 0
    assert "dreamer_learner_kl_nats 4.0" in page and "dreamer_learner_updates_total 40.0" in page
    assert 'phase="dream"} 2.0' in page and 'wait_seconds_total{on="replay"} 1.0' in page


def test_updates_that_were_not_finite_are_counted_and_balls_have_their_distance() -> None:
    meter = Meter(LEARNER)
    sight = {"ball_recall": 0.75, "ball_recall_5_ahead": 0.5, "ball_error_15_ahead": 3.0, "moved_recall": 1.0}
    LearnerRecorder(meter).message(message(8, nonfinite=0.25)._replace(sight=sight), {})
    page = meter.page().decode()
    assert "dreamer_learner_nonfinite_updates_total 2.0" in page
    assert 'ball_recall_ratio{ahead="0"} 0.75' in page and 'ball_recall_ratio{ahead="5"} 0.5' in page
    assert 'ball_error_pixels{ahead="15"} 3.0' in page


def test_what_a_replay_had_from_a_checkpoint_is_not_counted_as_new() -> None:
    meter = Meter(REPLAY)
    recorder = ReplayRecorder(meter, ReplayConfig(), ReplayStats(100, 10, 50, 400, 1000))
    recorder.stats(ReplayStats(104, 11, 52, 416, 1040, actors_wait=True))
    page = meter.page().decode()
    assert "inserted_windows_total 2.0" in page and "sampled_windows_total 16.0" in page
    assert 'waiting{side="actors"} 1.0' in page and 'waiting{side="learner"} 0.0' in page
    assert "dreamer_replay_resident_bytes" in page


def test_the_clock_gives_every_second_to_one_phase() -> None:
    clock = Clock(CPU)
    began = time.perf_counter()
    clock.take()
    for phase in ("wait", "dream", "wait"):
        clock.mark(phase)
        time.sleep(0.02)
    clock.mark_read("other")  # nothing to wait for on a CPU
    taken = clock.take()
    assert taken["wait"] >= 0.04 and 0.02 <= taken["dream"] < 0.04 + 0.5
    assert sum(taken.values()) <= time.perf_counter() - began
    assert sum(clock.take().values()) < 0.02


def test_films_show_what_training_saw_and_leave_its_draws_alone() -> None:
    config = cpu()
    agent = make_agent(config, env_spec(config))
    batch = random_batch(16, 8)
    batch = batch._replace(obs=torch.randint(0, 256, (16, 8, 40, 40, 1), dtype=torch.uint8))
    before = torch.get_rng_state()
    films = film(agent, batch)
    assert torch.equal(torch.get_rng_state(), before)
    for name in ("reconstruction_film", "open_loop_dream_film"):
        assert films[name].dtype.name == "uint8" and films[name].shape[0] == 4 * (16 + 3) and films[name].shape[3] == 3
        real, model = films[name][7, 20:140:3, 0:120:3, 0], films[name][7, 20:140:3, 124:244:3, 0]
        assert (real == batch.obs[7, 0, :, :, 0].numpy()).all()
        assert (films[name][7, 20:140:3, 248::3, 0] == abs(real.astype(int) - model)).all()


def test_pictures_are_a_function_of_agent_and_batch_and_leave_the_draws_of_training_alone() -> None:
    config = cpu()
    agent = make_agent(config, env_spec(config))
    batch = random_batch(16, 4)._replace(obs=torch.randint(0, 256, (16, 4, 40, 40, 1), dtype=torch.uint8))
    looks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        looks.append(look_at(agent, config.env, batch))
        assert torch.equal(torch.get_rng_state(), before)
    for name, picture in looks[0].images.items():
        assert (picture == looks[1].images[name]).all(), name
    assert looks[0].sight == looks[1].sight and looks[0].sight


# --- Where they are ---


def test_a_worker_that_starts_again_replaces_itself_and_a_retired_one_goes(tmp_path: Path) -> None:
    path = tmp_path / "prometheus" / "targets.json"
    found = Targets("a-run", path)
    for instance, port in (("actor-0", 1), ("actor-1", 2), ("board", 3), ("actor-0", 4)):
        found.announce(Target(instance.partition("-")[0], instance, f"127.0.0.1:{port}"))
    listed = json.loads(path.read_text())
    assert listed == found.discovery() and len(listed) == 3
    assert listed[0] == {
        "targets": ["127.0.0.1:4"],
        "labels": {"run": "a-run", "role": "actor", "instance": "actor-0"},
    }
    found.expect(["actor-0"])
    assert [entry["labels"]["instance"] for entry in json.loads(path.read_text())] == ["actor-0", "board"]
    found.close()
    assert json.loads(path.read_text()) == []


def test_health_names_who_is_dead_who_hangs_and_who_was_never_heard_of(tmp_path: Path) -> None:
    alive = serve(pages_of(Meter(LEARNER)), "127.0.0.1", 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call and says nothing, like a stopped process
        found = Targets("a-run", tmp_path / "targets.json")
        found.announce(Target("learner", "learner", alive))
        found.expect(["learner"])
        assert found.health_page().status == 200
        found.announce(Target("replay", "replay", f"127.0.0.1:{silent.getsockname()[1]}"))
        found.announce(Target("actor", "actor-0", f"127.0.0.1:{closed_port()}"))
        found.expect(["learner", "replay", "actor-0", "actor-1"])
        began = time.monotonic()
        page = found.health_page()
        assert page.status == 503 and time.monotonic() - began < 15
    text = page.body.decode()
    assert "actor-0 (does not answer), replay (does not answer)" in text and "actor-1 (has not said" in text
    assert "learner" not in text and text.count("\n") == 1


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_port_that_is_taken_is_the_users_to_mend() -> None:
    address = serve(pages_of(Meter(LEARNER)), "127.0.0.1", 0)
    assert answers_now(address)
    with pytest.raises(UserError, match="metrics-port 0"):
        serve({}, "127.0.0.1", int(address.rpartition(":")[2]))
    status, text = get(f"http://{address}/nothing")
    assert status == 404 and "/metrics" in text


def test_only_loopback_addresses_are_announced_as_they_are() -> None:
    instruments = pytest.importorskip("cluster.on_ray.instruments", reason="needs Ray: Python 3.11")
    is_loopback = instruments.is_loopback
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("10.0.0.5", "head.example")))


def test_reading_the_catalogue_starts_and_loads_nothing_heavy() -> None:
    code = "import sys, cluster.metrics.run, cluster.metrics.spec; sys.exit(bool({'ray', 'reverb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# --- A real run in one process ---


def test_one_process_shows_every_metric(tmp_path: Path) -> None:
    run = tmp_path / "run"
    often = ("--train.checkpoint-every", "2", "--train.image-every", "2", "--train.video-every", "2")
    driver = start(*train_options(run, "--runtime", "inline", *often))
    try:
        wait_for("updates", lambda: update_of(run) > 20)
        wait_for("every metric", lambda: not missing(scrape(run), runtime="inline"), seconds=60)
        found = scrape(run)
        check_sane(found)
        assert set(targets(run)) == {"inline"} and targets(run)["inline"]["labels"]["role"] == "inline"
        assert get(f"{base(run)}/healthz") == (200, "ok\n")
        assert total(found, "dreamer_driver_policy_steps") <= total(found, "dreamer_actor_policy_steps_total")
        assert total(found, "dreamer_replay_waiting") == 1
    finally:
        driver.send_signal(signal.SIGTERM)
        code, _, err = finish(driver)
    assert code == 143, err


def test_metrics_that_are_off_are_off_everywhere(tmp_path: Path) -> None:
    run = tmp_path / "run"
    off = ("--cluster.metrics-port", "-1", "--updates", "3")
    code, _, err = finish(start(*train_options(run, "--runtime", "inline", *off)))
    assert code == 0 and "metrics off" in err
    assert not (run / "prometheus").exists()


# --- A GPU's own numbers ---

UTILISATION = "dreamer_learner_gpu_utilisation_ratio"


def nvml_errors() -> list[Exception]:
    """What asking a GPU has been seen to raise, and what it may."""
    found: list[Exception] = [ModuleNotFoundError("pynvml"), OSError("libnvidia-ml.so.1"), RuntimeError("no driver")]
    pynvml = pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    codes = ("NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_NO_PERMISSION", "NVML_ERROR_LIB_RM_VERSION_MISMATCH")
    return (
        found + [pynvml.NVMLError(getattr(pynvml, code)) for code in codes] + [ValueError("invalid literal: 'MIG-1'")]
    )


@pytest.mark.parametrize("worked", [False, True])
def test_a_gpu_that_does_not_say_how_busy_it_is_ends_nothing(
    worked: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 7)
    gpu = torch.device("cuda", 0)
    for error in nvml_errors():
        answers = iter([40, error] if worked else [error])

        def ask(device: torch.device, answers=answers) -> int:
            answer = next(answers)  # asked once too often: StopIteration
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(torch.cuda, "utilization", ask)
        meter = Meter(LEARNER)
        recorder = LearnerRecorder(meter)
        caplog.clear()
        for _ in range(4):
            recorder.gpu(gpu)
        assert len(caplog.records) == 1 and type(error).__name__ in caplog.text
        page = meter.page().decode()
        assert "dreamer_learner_gpu_memory_bytes 7.0" in page
        assert re.findall(rf"^{UTILISATION} (.*)", page, re.MULTILINE) == (["NaN"] if worked else [])
