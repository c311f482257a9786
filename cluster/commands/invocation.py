"""One invocation of `train` or `dream`, from a request that was understood to the line that tells what is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from actors.config import EnvConfig, check_same_game
from actors.game import resolve
from cluster import assemble
from cluster.commands.options import DreamOptions, TrainOptions
from cluster.config import Config, from_json
from cluster.console.signals import Stop
from cluster.errors import in_one_line
from cluster.metrics.http import check_port
from cluster.run import directory as run_dir
from cluster.run.directory import Run
from cluster.run.lock import Keeper, RunLock
from cluster.run.log_file import LogFile, recording
from cluster.run.records import RunLog
from cluster.training import Job, Limits
from learner import checkpoint
from replay.atomic import sweep
from replay.bounds import kinds
from replay.errors import UserError
from replay.experience import EnvSpec


class Asked(NamedTuple):
    """A request to train, understood and found possible as far as that can be seen without touching anything."""

    options: TrainOptions | DreamOptions
    limits: Limits
    config: Config
    spec: EnvSpec
    runs: Path  # where a run directory without a name is made
    before: str | None  # on resume: the runtime that the run had
    runtime: str
    trainer: Any  # the runtime's module, or what else has `ready` and `train`
    greeting: Callable[[Job, RunLog], list[str]]  # what is about to happen


def invoke(name: str, arguments: list[str], understand: Callable[[list[str]], Asked]) -> int:
    """Runs the command `name`: what was asked for and how it ended is in its log, whatever happens."""
    lock = RunLock()
    with recording(arguments, name) as log_file:
        try:
            return train_as_asked(understand(arguments), Stop(), lock, log_file)
        except BaseException as error:
            log_file.ended_by(error)
            raise
        finally:
            lock.close()


def train_as_asked(asked: Asked, stop: Stop, lock: RunLock, log_file: LogFile) -> int:
    """Trains as asked, in a new run directory or one that is gone on with; returns the exit code.

    A new directory is made last of all, when nothing is left that could be refused; one in which nothing has happened
    when a request turns out to be wrong is removed again.
    """
    options, config = asked.options, asked.config
    run, found, old = Run(asked.runs, run_dir.new_id()), None, config
    if options.run_dir and options.resume:
        run, found, old = go_on(options.run_dir, asked, lock, log_file)
    run_log: RunLog | None = None
    try:
        with asked.trainer.ready(Job(config, run, asked.limits, found)) as job:
            check_port(job.config.cluster.host, job.config.cluster.metrics_port)
            if options.resume:
                run_dir.change_config(run, old, config)
            else:
                run = run_dir.create(options.run_dir, config, id=run.id, runs=asked.runs, take=lock.take)
                open_file(log_file, run)
            job = job._replace(run=run)
            run_log = open_log(asked, job, lock, log_file)
            why = train_with(asked, job, run_log, stop)
    except UserError:
        if not options.resume and run.path != asked.runs and not (run_log and run_log.policy_step):
            lock.close()
            run_dir.forget(run)
        raise
    return say_end(run, run_log, why, stop)


def go_on(
    folder: Path, asked: Asked, lock: RunLock, log_file: LogFile
) -> tuple[Run, checkpoint.Checkpoint | None, Config]:
    """An existing run, the checkpoint to go on from, and its configuration until now; what does not fit is refused."""
    run, before = run_dir.open_run(folder)
    check_same_game(resolve(before.env), asked.config.env)
    lock.take(run.path)
    open_file(log_file, run)
    for part in (run.path, run.checkpoints, run.path / "prometheus"):
        sweep(part)
    found = checkpoint.load_newest(run.checkpoints, set_aside=True)
    if found:
        checkpoint.check_trainable(found)
        check_same_game(game_of(found), asked.config.env)  # config.json may have been changed by hand
        checkpoint.restore(found, assemble.make_agent(asked.config, asked.spec))
    return run, found, run_dir.open_run(folder)[1]


def game_of(found: checkpoint.Checkpoint) -> EnvConfig:
    """The game that a checkpoint was trained on, as far as its version and ours have the same words for it."""
    known = {name: value for name, value in found.config["env"].items() if name in kinds(EnvConfig)}
    return resolve(from_json({"env": known}).env)


def open_file(log_file: LogFile, run: Run) -> None:
    """Raises UserError where log.txt cannot be written."""
    try:
        log_file.open(run.path / "log.txt")
    except OSError as error:
        raise cannot_write(error, run) from error


def cannot_write(error: OSError, run: Run) -> UserError:
    where = error.filename or run.path
    return UserError(f"cannot write to {where} ({error.strerror}): mend its permissions or free space")


def open_log(asked: Asked, job: Job, lock: RunLock, log_file: LogFile) -> RunLog:
    """The run's records, greeted with what is about to happen. Raises UserError where they cannot be written."""
    progress = {"policy_step": job.resume.policy_step, "update": job.resume.update} if job.resume else {}
    console, keeper = Console(stderr=True), Keeper(job.run, lock, log_file)
    try:
        run_log = RunLog(job.config, job.run, console, runtime=asked.runtime, keeper=keeper, **progress)
    except OSError as error:
        raise cannot_write(error, job.run) from error
    for line in asked.greeting(job, run_log):
        run_log.say(line)
    if asked.before and asked.before != asked.runtime:
        run_log.say(f"so far the run had --runtime {asked.before}: the replay of that is not read here")
    return run_log


def train_with(asked: Asked, job: Job, run_log: RunLog, stop: Stop) -> str:
    """Trains; returns why it ended. However it ends, the records say so."""
    try:
        why: str = asked.trainer.train(job, run_log, stop)
    except BaseException as error:
        run_log.close(error=in_one_line(error))
        if not isinstance(error, UserError):
            run_log.say(f"failed: {how_far(run_log)}; {newest_of(job.run)}")
        raise
    lost = what_is_lost(job.run, run_log)
    run_log.close(f"{why}; the end of it could NOT be saved ({lost})" if lost else why)
    return why


def say_end(run: Run, run_log: RunLog, why: str, stop: Stop) -> int:
    """The last line: why, how far, and what is saved; returns the exit code."""
    lost = what_is_lost(run, run_log)
    run_log.say(
        f"ended: {why}; {how_far(run_log)}; "
        + (f"the end of it could NOT be saved ({lost}); " if lost else "")
        + newest_of(run)
    )
    return 1 if lost else stop.exit_code


def what_is_lost(run: Run, run_log: RunLog) -> str:
    """Why the last updates of a training that is over are not saved; "" = they are."""
    saved = saved_in(run)
    behind = (checkpoint.update_of(saved[0]) if saved else 0) < run_log.update
    return run_log.unsaved or ("the learner did not save at the end" if behind else "")


def how_far(run_log: RunLog) -> str:
    return f"update {run_log.update:,}, policy step {run_log.policy_step:,}"


def saved_in(run: Run) -> list[Path]:
    """The run's checkpoints, newest first; none where another run lies there now."""
    return checkpoint.list_checkpoints(run.checkpoints) if run_dir.is_ours(run) else []


def newest_of(run: Run) -> str:
    """What there is to go on from."""
    saved = saved_in(run)
    return f"{saved[0].stem} saved in {run.path}" if saved else f"there is no checkpoint in {run.path}"
