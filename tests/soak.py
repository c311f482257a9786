"""A long run with random deaths, at the end of which everything must add up.

    python -m tests.soak --minutes 45 --kill-every 60

starts a real `train` (Ray and Reverb), kills a process of it at random (seeded) now and then, sometimes the driver,
which is then started again with --resume, and at last ends it with SIGTERM. Prints a table, writes JSON, ends with 1 if

- the books do not balance: of every incarnation of every actor (actors.json) played = acknowledged + dropped + open,
  0 <= open <= the windows that its games can have under way; the last driver's policy steps are those of its books;
- updates went back further than to the last checkpoint, or without a death;
- training did not go on after a death, or ended by itself;
- something leaked: processes, file descriptors, memory of the driver or of Ray's own processes, /dev/shm.

What a killed actor played since its last message is in no record: at most a message interval (1 s) of play. A killed
driver's policy steps count from its last checkpoint again; its books keep what was played.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from cluster.run.directory import open_run
from learner import checkpoint
from tests.cluster.processes import Driver, command
from tests.cluster.tiny import TINY, rows, wait_for
from tests.soak_report import Death, Usage, judge_books, judge_leaks, judge_updates, table

ROLES = {"actor": "ActorRole", "replay": "ReplayRole", "learner": "LearnerRole", "mailbox": "Mailbox"}
DECK = ["actor"] * 4 + ["replay", "learner", "mailbox"] * 2 + ["driver"]  # who dies in a round, in random order
PATIENCE = 180.0  # seconds until training must go on
SETTLED = 60.0  # seconds after which a driver has loaded all that it needs
OFTEN = ["--train.log-every", "1", "--train.checkpoint-every", "20", "--train.image-every", "120"]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="A long run with random deaths.")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--kill-every", type=float, default=60, help="seconds from one death to the next, on average")
    parser.add_argument("--seed", type=int, default=0, help="of who dies when")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--metrics-port", type=int, default=0, help="fixed, for a Prometheus beside it")
    parser.add_argument("--run-dir", type=Path, help="a new one; default: a temporary one")
    parser.add_argument("--out", type=Path, help="JSON file; default: soak.json in the run directory")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--preset", default="cpu")
    size.add_argument("--tiny", action="store_true", help="nets and games as small as in the tests")
    return parser.parse_args(arguments)


class Soak:
    """The run, its victims, and what was seen."""

    def __init__(self, options: argparse.Namespace, run: Path) -> None:
        self.options, self.run = options, run
        self.random = random.Random(options.seed)
        self.deck: list[str] = []
        self.began = self.driver_began = time.monotonic()
        self.end = self.began + options.minutes * 60
        self.deaths: list[Death] = []
        self.usage: list[Usage] = []
        self.problems: list[str] = []
        self.shared_before = shutil.disk_usage("/dev/shm").used
        self.starts: list[int] = []  # policy step with which each driver began
        self.driver = self._start()

    def go(self) -> None:
        """Kills until the time is over, then ends the run."""
        try:
            self._await_progress("the first updates")
            while time.monotonic() < self.end:
                due = self.deaths[-1].at if self.deaths else 0.0
                due += self.began + self.random.uniform(0.5, 1.5) * self.options.kill_every
                self._watch_until(min(due, self.end))
                if time.monotonic() < self.end:
                    self._kill(self._draw())
            self._watch_until(time.monotonic() + 10)
            if (code := self.driver.end()) != 143:
                self.problems.append(f"SIGTERM ended it with exit code {code}")
        except AssertionError as error:  # training did not go on
            self.problems.append(str(error))
        self._await_nobody()
        self.driver.destroy()

    def judge(self) -> dict[str, Any]:
        """Checks everything; returns what was found."""
        accounts, wrong_books = judge_books(self.run, self.starts)
        leaks, leaking = judge_leaks(self.usage, self.shared_before)
        self.problems += [*wrong_books, *judge_updates(self.run, self.deaths), *leaking]
        last, (_, config) = rows(self.run / "metrics.jsonl")[-1], open_run(self.run)
        return {
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "minutes": (time.monotonic() - self.began) / 60,
            "options": {name: str(value) for name, value in vars(self.options).items()},
            "deaths": [death._asdict() for death in self.deaths],
            "update": last["update"],
            "policy_step": last["policy_step"],
            "frame_skip": config.env.frame_skip,
            "accounts": accounts,
            "leaks": leaks,
            "problems": self.problems,
        }

    def _start(self, *more: str) -> Driver:
        size = TINY if self.options.tiny else ["--preset", self.options.preset]
        found = checkpoint.load_newest(self.run / "checkpoints") if self.starts else None
        self.starts.append(found.policy_step if found else 0)
        self.driver_began = time.monotonic()
        where = ["--cluster.metrics-port", str(self.options.metrics_port), "--run-dir", str(self.run)]
        many = ["--cluster.actors", str(self.options.actors)]
        return Driver(self.run.with_suffix(".said"), "train", *size, *OFTEN, *where, *many, *more)

    def _draw(self) -> str:
        if not self.deck:
            self.deck = self.random.sample(DECK, len(DECK))
        return self.deck.pop()

    def _kill(self, who: str) -> None:
        saved = checkpoint.list_checkpoints(self.run / "checkpoints")
        update = rows(self.run / "metrics.jsonl")[-1]["update"]
        began = time.monotonic()
        if who == "driver":
            self.driver.tree()
            self.driver.process.kill()
            self.driver.process.wait()
            self._await_nobody()
            self.driver.destroy()
            self.driver = self._start("--resume")
        else:
            self.driver.hurt(ROLES[who], choice=self.random.randrange(100)).wait(10)
        self._await_progress(f"training after the death of {who}")
        kept = int(saved[0].stem.split("-")[1]) if saved else 0
        death = Death(began - self.began, who, update, kept, time.monotonic() - began)
        self.deaths.append(death)
        print(f"{death.at:6.0f} s  {who} killed at update {update}; goes on after {death.seconds:.1f} s", flush=True)

    def _await_progress(self, what: str) -> None:
        """Until updates are done and steps are played that are newer than now."""
        began = time.time()

        def goes_on() -> bool:
            new = [row for row in rows(self.run / "metrics.jsonl") if row["time"] > began + 1.5]  # not the death's own
            return all(any(row[f"{kind}_per_second"] > 0 for row in new) for kind in ("updates", "policy_steps"))

        wait_for(what, goes_on, seconds=PATIENCE)

    def _await_nobody(self) -> None:
        """Ray's processes follow their driver; not all at once."""
        deadline = time.monotonic() + 30
        while self.driver.left() and time.monotonic() < deadline:
            time.sleep(0.5)
        if left := [command(process)[:60] for process in self.driver.left()]:
            self.problems.append(f"processes outlived their driver: {left}")

    def _watch_until(self, moment: float) -> None:
        """Lets it run; looks every few seconds at what it holds."""
        while (now := time.monotonic()) < moment:
            assert self.driver.process.poll() is None, f"training ended by itself: {self.driver.said()[-500:]}"
            if now - self.driver_began > SETTLED:
                self.usage.append(self._use())
            time.sleep(min(5.0, moment - now))

    def _use(self) -> Usage:
        tree, descriptors, resident = self.driver.tree(), 0, 0
        for process in tree:
            own = process.pid == self.driver.process.pid or command(process).split(" ")[0].endswith(
                ("/raylet", "/gcs_server")
            )
            try:
                descriptors += process.num_fds()
                resident += process.memory_info().rss if own else 0
            except psutil.Error:
                continue
        shared = shutil.disk_usage("/dev/shm").used
        return Usage(time.monotonic() - self.began, len(tree), descriptors, resident, shared)


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Runs it -> what was found, also written to the JSON file."""
    run = options.run_dir or Path(tempfile.mkdtemp(prefix="soak-")) / "run"
    run.parent.mkdir(parents=True, exist_ok=True)
    one = Soak(options, run)
    try:
        one.go()
    finally:
        one.driver.destroy()
    result = one.judge()
    out = options.out or run / "soak.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    print(f"written to {out}; what the drivers said is in {run.with_suffix('.said')}")
    return result


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(1 if soak(parse(sys.argv[1:]))["problems"] else 0)
