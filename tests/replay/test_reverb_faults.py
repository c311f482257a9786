"""What happens to the clients of a replay server when things die, and to checkpoints that do not fit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import replay
from replay import ReplayConfig, ReplayTimeout, ReplayUnavailable, UserError
from replay.config import error_buffer, min_windows, samples_per_insert
from replay.schema import table_name
from tests.replay.testkit import ROOT, RUN, SPEC, Background, Host, frame_numbers, play

pytestmark = pytest.mark.reverb
CONFIG = ReplayConfig(capacity=40_000, length=8, stride=4, batch=5, prefill=80, replay_ratio=4)
NewHost = Callable[[], Host]


def connect(address: str, config: ReplayConfig = CONFIG, patience: float = 30) -> replay.Replay:
    return replay.connect(address, config, SPEC, run_id=RUN, patience=patience)


def fill(address: str, config: ReplayConfig = CONFIG) -> int:
    """Some games; returns the number of windows that the server has then."""
    connection = connect(address, config)
    play(connection.writer(), [30] * 3)
    return connection.stats().windows


def folder(directory: Path) -> Path:
    return directory / table_name(CONFIG, SPEC)


def damage(directory: Path) -> None:
    newest = max((folder(directory) / "newest").glob("*/DONE")).parent
    for path in newest.glob("*.tfrecord"):
        os.truncate(path, path.stat().st_size // 2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def test_clients_carry_on_when_the_server_restarts(new_host: NewHost, tmp_path: Path) -> None:
    config = replace(CONFIG, port=free_port())
    host, spare = new_host(), new_host()
    connection = connect(host.serve(config, tmp_path), config)
    writer, sampler = connection.writer(), connection.sampler()
    done = False

    def act() -> int:
        start = 0
        while not done:
            play(writer, [40], start)
            start += 40
        return start

    def train_until(batches: int) -> None:
        deadline = time.monotonic() + 25
        while batches > 0:
            assert time.monotonic() < deadline, "no batches any more"
            try:
                data = sampler.sample(timeout=2).sequences
            except ReplayTimeout:
                continue
            assert (np.diff(frame_numbers(data.obs), axis=1) == 1).all()
            batches -= 1

    actor = Background(act)
    train_until(20)
    host.checkpoint()
    saved = connection.stats()
    train_until(20)
    host.kill()
    spare.serve(config, tmp_path)
    train_until(20)
    before = connection.stats()
    assert before.inserted >= saved.inserted
    train_until(100)
    done = True
    while actor.running():
        train_until(1)
    assert actor.result() > 0
    stats = connection.stats()
    assert stats.inserted > before.inserted
    due = (stats.inserted - min_windows(config)) * samples_per_insert(config)
    assert abs(stats.sampled - due) <= error_buffer(config) + config.batch, "no burst after the restart"
    sampler.close()
    writer.close()


def test_sudden_death_of_a_writer_leaves_whole_windows(shared_host: Host, tmp_path: Path) -> None:
    address = shared_host.serve(CONFIG, tmp_path)
    sampler = connect(address).sampler()
    arguments = [sys.executable, "-m", "tests.replay.testkit", "write", address, json.dumps(dataclasses.asdict(CONFIG))]
    actor = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        for batch in range(60):
            data = sampler.sample(timeout=20).sequences
            assert (np.diff(frame_numbers(data.obs), axis=1) == 1).all()
            if batch == 20:
                actor.send_signal(signal.SIGKILL)
                connection = connect(address)
                survivor = Background(play, connection.writer(), [50] * 20)
        while survivor.running():  # its games need to be trained on, else it would wait
            with contextlib.suppress(ReplayTimeout):
                sampler.sample(timeout=1)
        assert survivor.result() == list(range(0, 1000, 50)), "it plays on as if nothing had happened"
    finally:
        actor.kill()
        actor.wait()
        sampler.close()
        shared_host.close_server()


def test_unreadable_checkpoint_is_moved_aside(shared_host: Host, tmp_path: Path) -> None:
    counts = []
    config = replace(CONFIG, replay_ratio=0.05)  # room for many inserts without samples
    for _ in range(2):
        address = shared_host.serve(config, tmp_path)
        counts.append(fill(address, config))
        shared_host.checkpoint()
        shared_host.close_server()
    assert counts[1] == 2 * counts[0], "the checkpoint was loaded"
    shared_host.serve(config, tmp_path)
    shared_host.checkpoint()  # now there is one before
    shared_host.close_server()

    damage(tmp_path)
    address = shared_host.serve(config, tmp_path)
    assert connect(address, config).stats().windows == counts[1], "the one before took its place"
    shared_host.close_server()
    damage(tmp_path)
    address = shared_host.serve(config, tmp_path)
    assert connect(address, config).stats().windows == 0
    assert len(list((folder(tmp_path) / "aside").iterdir())) == 2
    shared_host.close_server()


def test_checkpoint_that_kills_its_reader_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from replay import checkpoints

    checkpoints.prepare(tmp_path / "t", {"a": 1})
    (tmp_path / "t" / "newest" / "2026").mkdir()
    (tmp_path / "t" / "newest" / "2026" / "DONE").touch()
    for _ in range(checkpoints.ATTEMPTS):
        checkpoints.begin_load(tmp_path / "t")
        assert checkpoints.newest(tmp_path / "t") is not None
    checkpoints.begin_load(tmp_path / "t")
    assert checkpoints.newest(tmp_path / "t") is None
    assert "starting empty" in caplog.text


def test_checkpoint_of_other_settings_is_moved_aside(shared_host: Host, tmp_path: Path) -> None:
    fill(shared_host.serve(CONFIG, tmp_path))
    shared_host.checkpoint()
    shared_host.close_server()
    other = replace(CONFIG, capacity=20_000)
    address = shared_host.serve(other, tmp_path)
    assert connect(address, other).stats().windows == 0
    assert len(list(tmp_path.glob("*.other-settings/newest/*/DONE"))) == 1
    shared_host.close_server()


def test_port_in_use_is_refused(shared_host: Host, tmp_path: Path) -> None:
    address = shared_host.serve(CONFIG, tmp_path)
    port = int(address.rsplit(":", 1)[1])
    with pytest.raises(UserError, match=f"port {port} is in use"):
        replay.serve(replace(CONFIG, port=port), SPEC, directory=tmp_path / "other", run_id=RUN)
    shared_host.close_server()


def test_server_of_another_run_is_refused(shared_host: Host, tmp_path: Path) -> None:
    address = shared_host.serve(CONFIG, tmp_path, run_id="elsewhere")
    with pytest.raises(UserError, match=f"belongs to run elsewhere, not to {RUN}"):
        connect(address)
    with pytest.raises(UserError, match="another length or game"):
        replay.connect(address, replace(CONFIG, length=10), SPEC, run_id="elsewhere")
    shared_host.close_server()


def test_nobody_there() -> None:
    pytest.importorskip("reverb")
    with pytest.raises(ReplayUnavailable, match="silent for 1 s"):
        connect(f"localhost:{free_port()}", patience=1)


def test_dead_server_is_noticed_and_everything_closes(new_host: NewHost, tmp_path: Path) -> None:
    host = new_host()
    connection = connect(host.serve(CONFIG, tmp_path), patience=3)
    writer, starving = connection.writer(), connection.sampler()
    play(writer, [30])
    time.sleep(1.5)  # a sampler that is just connecting may need 30 s to give up: see ReverbSampler.close
    host.kill()
    start = time.monotonic()
    with pytest.raises(ReplayTimeout, match="does not answer"):
        starving.sample(timeout=0.5)
    with pytest.raises(ReplayUnavailable, match="silent for 3 s"):
        play(writer, [100], 1000)
    with pytest.raises(ReplayUnavailable, match="silent for 3 s"):
        while True:
            with pytest.raises(ReplayTimeout):
                starving.sample(timeout=0.5)
    with pytest.raises(ReplayUnavailable):
        connection.writer()
    assert time.monotonic() - start < 20
    writer.close()
    starving.close()
    assert time.monotonic() - start < 25


def test_process_with_starved_sampler_ends_cleanly(new_host: NewHost, tmp_path: Path) -> None:
    host = new_host()
    address = host.serve(CONFIG, tmp_path)
    program = f"""
import os, signal, sys, time, replay
from replay import EnvSpec, ReplayConfig
from tests.replay.testkit import SPEC
sampler = replay.connect({address!r}, {CONFIG!r}, SPEC, run_id={RUN!r}).sampler()
time.sleep(1.5)
os.kill({host.process.pid}, signal.SIGKILL)
time.sleep(1)
sampler.close()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=40, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_waiting_writer_can_be_stopped(shared_host: Host, tmp_path: Path) -> None:
    address = shared_host.serve(CONFIG, tmp_path)
    stop = False
    connection = replay.connect(address, CONFIG, SPEC, run_id=RUN, should_stop=lambda: stop)
    writer = connection.writer()
    actor = Background(play, writer, [300])
    time.sleep(3)
    assert actor.running(), "nobody samples, so it waits"
    stop = True
    actor.result(timeout=10)
    assert writer.wait_seconds > 2
    assert writer.acknowledged < writer.played
    writer.close()
    shared_host.close_server()


def test_overlap_stores_frames_once(shared_host: Host, tmp_path: Path) -> None:
    config = replace(CONFIG, length=40, prefill=4000)
    sizes = {}
    for stride in (20, 40):
        each = replace(config, stride=stride)
        directory = tmp_path / str(stride)
        connection = connect(shared_host.serve(each, directory), each)
        play(connection.writer(), [400] * 10)
        shared_host.checkpoint()
        shared_host.close_server()
        sizes[stride] = sum(path.stat().st_size for path in directory.glob("*/newest/*/chunks.tfrecord"))
    assert sizes[20] < 1.3 * sizes[40], "twice as many windows, the same frames"
