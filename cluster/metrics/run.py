"""The metrics of everything but the learner: the run and its workers, acting, the replay, the mailbox, processes.

"Here" in a healthy range is the run of deploy/agents/breakout-cpu: preset cpu, two cores, one hour.
"""

from __future__ import annotations

from cluster.metrics.spec import ACTOR, COUNTER, DRIVER, EVERY, GAUGE, HISTOGRAM, MAILBOX, REPLAY, Spec

# One argument a line would make this table unreadable.
# fmt: off

SCORES = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 400)  # points; Breakout goes to 864
LENGTHS = (50, 100, 200, 400, 800, 1600, 3200, 6400, 27000)  # policy steps; 27,000 is the usual limit of 108,000 frames
STEP_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

WORKERS = (
    Spec(
        "dreamer_run_info", GAUGE, "", "always 1; its labels say what is running", "1", "", DRIVER,
        labels={"env": (), "runtime": ("ray", "inline", "dream"), "device": (), "precision": (), "version": ()}
    ),
    Spec(
        "dreamer_run_start_timestamp_seconds", GAUGE, "seconds since 1970", "when this invocation of train began",
        "in the past", "", DRIVER
    ),
    Spec(
        "dreamer_workers_expected", GAUGE, "processes", "processes of a role that should be running now",
        "as many as answer Prometheus (`up`)",
        "if fewer are up, one has died and is being started again, or hangs: read log.txt", DRIVER,
        labels={"role": ("learner", "actor", "replay", MAILBOX)}, only="--runtime ray"
    ),
    Spec(
        "dreamer_worker_restarts_total", COUNTER, "starts", "processes that died and were started again", "flat",
        "the reason of each death stands in log.txt; a killed process often means too little memory", DRIVER,
        labels={"role": ("learner", "actor", "replay", MAILBOX)}, only="--runtime ray"
    ),
    Spec(
        "dreamer_driver_policy_steps", GAUGE, "policy steps", "policy steps of the whole run, resumes included",
        "rising", "if it stands still, see who waits for whom and which worker is missing", DRIVER
    ),
    Spec(
        "dreamer_driver_frames", GAUGE, "emulator frames",
        "the same in emulator frames, the unit of published curves", "rising", "as for policy steps", DRIVER
    ),
    Spec(
        "dreamer_driver_updates", GAUGE, "updates", "updates of the world model of the whole run, resumes included",
        "rising once the replay is filled; falls back when a learner starts again from its checkpoint",
        "if it stands still, look at the learner's waits and at log.txt", DRIVER
    ),
    Spec(
        "dreamer_driver_score_points", GAUGE, "points", "mean score of the last 100 games, as training plays them",
        "rising over hours; random play of Breakout has about 1 (a game ends with a life in presets that say so)",
        "flat for 300,000 frames: look at ball recall, then at the actor's entropy", DRIVER
    ),
    Spec(
        "dreamer_driver_score_max_points", GAUGE, "points", "best score of the last 100 games",
        "above the mean, and rising before it does", "as for the mean", DRIVER
    ),
    Spec(
        "dreamer_driver_lives_lost_ratio", GAUGE, "0 to 1",
        "of the lives in the last 100 games that had so many rewards, the share lost before the next one",
        "falling at both; the agent of an hour loses 0.01 at 0 and 0.61 at 4 (docs/learning.md)",
        "high at 0: the policy has given a serve up, raise behavior.entropy_scale; a jump at 4: Breakout's ball has "
        "just become faster, and the model has seen little of that", DRIVER, labels={"rewards": ("0", "4")}
    ),
    Spec(
        "dreamer_driver_message_timestamp_seconds", GAUGE, "seconds since 1970", "when each worker last reported",
        "seconds ago: workers report once a second, the replay every ten; a long checkpoint may take half a minute",
        "older: the process hangs or is starved of CPU; it is killed and started again after "
        "cluster.stall_seconds (180)", DRIVER,
        labels={"worker": ()}
    ),
)

ACTING = (
    Spec(
        "dreamer_actor_policy_steps_total", COUNTER, "policy steps", "policy steps played by this process",
        "here 470 to 610 a second for all actors together, held back by the replay ratio",
        "none: is the actor alive, and does it wait for the replay?", ACTOR
    ),
    Spec(
        "dreamer_actor_frames_total", COUNTER, "emulator frames", "the same in emulator frames",
        "policy steps times the frame skip", "", ACTOR
    ),
    Spec(
        "dreamer_actor_episodes_total", COUNTER, "games", "games finished", "rising; slower as games get longer",
        "none in an hour: the agent may wait for ever without serving the ball", ACTOR
    ),
    Spec(
        "dreamer_actor_acknowledged_steps_total", COUNTER, "policy steps",
        "steps in windows that the replay has confirmed: safe from this actor's death",
        "as fast as policy steps, less what was dropped", "slower: the replay does not answer", ACTOR
    ),
    Spec(
        "dreamer_actor_dropped_steps_total", COUNTER, "policy steps",
        "steps that never got into a window: games shorter than one window, and games that were broken off",
        "a small share of policy steps", "many: games are shorter than replay.length; make that smaller", ACTOR
    ),
    Spec(
        "dreamer_actor_episode_score_points", HISTOGRAM, "points", "scores of finished games",
        "moves to higher buckets over hours", "as for dreamer_driver_score_points", ACTOR, buckets=SCORES
    ),
    Spec(
        "dreamer_actor_episode_length_steps", HISTOGRAM, "policy steps", "lengths of finished games",
        "grows with the score", "all in the highest bucket: the agent avoids the end instead of scoring", ACTOR,
        buckets=LENGTHS
    ),
    Spec(
        "dreamer_actor_policy_version_updates", GAUGE, "updates", "update count of the policy that this actor plays",
        "rising with the learner's updates", "stands still: the actor does not reach the mailbox", ACTOR
    ),
    Spec(
        "dreamer_actor_policy_age_updates", GAUGE, "updates",
        "newest update published, as this actor last heard, less that of the policy it plays",
        "0 to a few times train.publish_every (10)",
        "hundreds: it plays with stale weights; is the actor starved of CPU, or the mailbox slow?", ACTOR
    ),
    Spec(
        "dreamer_actor_step_seconds", HISTOGRAM, "seconds",
        "one tick: a policy step of all games of this actor, without the time it waited for the replay",
        "flat", "long: the cores are shared with too much else; fewer actor.games", ACTOR,
        buckets=STEP_SECONDS
    ),
    Spec(
        "dreamer_actor_wait_seconds_total", COUNTER, "seconds", "time in which this actor was held back",
        "any: on few cores the learner is the bottleneck and actors wait (here 0.51 to 0.58 of the time)",
        "near 1 on a machine with free cores: fewer actors would do", ACTOR, labels={"on": ("replay",)}
    ),
    Spec(
        "dreamer_actor_errors_total", COUNTER, "calls", "calls that failed and were tried again or done without",
        "flat", "rising: the mailbox or the replay is away; log.txt tells", ACTOR, labels={"on": (MAILBOX, "replay")}
    ),
)

REPLAYING = (
    Spec(
        "dreamer_replay_size_steps", GAUGE, "policy steps", "steps that can be sampled",
        "rises to the capacity and stays", "falls to 0: the replay was restarted without a checkpoint", REPLAY
    ),
    Spec("dreamer_replay_capacity_steps", GAUGE, "policy steps", "replay.capacity", "fixed", "", REPLAY),
    Spec(
        "dreamer_replay_size_bytes", GAUGE, "bytes",
        "what those steps need uncompressed (Reverb stores them smaller)", "as printed at the start, at most", "",
        REPLAY
    ),
    Spec(
        "dreamer_replay_resident_bytes", GAUGE, "bytes", "memory of the process that holds the replay",
        "flat once the replay is full", "near the machine's memory: lower replay.capacity and --resume", REPLAY
    ),
    Spec(
        "dreamer_replay_inserted_windows_total", COUNTER, "windows", "windows written into the replay",
        "policy steps / replay.stride", "none: the actors wait or are gone", REPLAY
    ),
    Spec(
        "dreamer_replay_sampled_windows_total", COUNTER, "windows", "windows read from the replay",
        "updates x replay.batch", "none: the learner is gone, or waits for more play", REPLAY
    ),
    Spec(
        "dreamer_replay_window_steps", GAUGE, "policy steps", "length of a window: turns sampled windows into steps",
        "fixed", "", REPLAY
    ),
    Spec(
        "dreamer_replay_stride_steps", GAUGE, "policy steps",
        "new steps that a window brings: turns inserted windows into steps", "fixed", "", REPLAY
    ),
    Spec(
        "dreamer_replay_ratio", GAUGE, "trained per played step",
        "trained steps per played step since training began",
        "within 2 % of the one wanted, a few minutes after the start",
        "lower: the learner does not keep up with what is allowed to wait; higher: the actors are gone", DRIVER
    ),
    Spec("dreamer_replay_ratio_wanted", GAUGE, "trained per played step", "replay.replay_ratio", "fixed", "", DRIVER),
    Spec(
        "dreamer_replay_waiting", GAUGE, "0 or 1", "1 while the rate limiter holds that side back",
        "one of them most of the time: the slower side sets the pace",
        "learner on a GPU: more actors; neither and nothing moves: see which worker is missing", REPLAY,
        labels={"side": ("actors", "learner")}
    ),
    Spec(
        "dreamer_replay_checkpoint_timestamp_seconds", GAUGE, "seconds since 1970", "when the replay was last saved",
        "at most train.checkpoint_every (300 s) and some ago", "older: is the disk full? log.txt tells", REPLAY
    ),
    Spec(
        "dreamer_replay_checkpoint_seconds", GAUGE, "seconds", "how long that took", "seconds",
        "minutes: a slow disk; save less often (train.checkpoint_every)", REPLAY
    ),
)

MAILBOX_METRICS = (
    Spec(
        "dreamer_board_publications_total", COUNTER, "publications", "policies published by the learner",
        "one per train.publish_every updates", "none: the learner waits or is gone", MAILBOX, only="--runtime ray"
    ),
    Spec(
        "dreamer_board_pulls_total", COUNTER, "pulls", "policies fetched by actors", "up to publications x actors",
        "none: the actors do not reach the mailbox", MAILBOX, only="--runtime ray"
    ),
    Spec(
        "dreamer_board_messages_waiting", GAUGE, "messages", "messages that the driver has not yet taken",
        "below ten per worker", "rising: the driver hangs or is starved of CPU", MAILBOX, only="--runtime ray"
    ),
    Spec(
        "dreamer_board_weights_bytes", GAUGE, "bytes", "size of the published policy", "fixed", "", MAILBOX,
        only="--runtime ray"
    ),
    Spec(
        "dreamer_board_weights_timestamp_seconds", GAUGE, "seconds since 1970", "when a policy was last published",
        "train.publish_every updates ago at most", "older: the learner waits, hangs or is gone", MAILBOX,
        only="--runtime ray"
    ),
)

PROCESSES = (
    Spec(
        "dreamer_process_resident_bytes", GAUGE, "bytes", "memory of the process", "flat after some minutes",
        "rising for hours is a leak: report it, and --resume", EVERY
    ),
    Spec(
        "dreamer_process_cpu_seconds_total", COUNTER, "seconds", "CPU time of the process, all threads",
        "rates of all processes add up to less than the cores", "more processes than cores: fewer actors", EVERY
    ),
    Spec(
        "dreamer_process_start_timestamp_seconds", GAUGE, "seconds since 1970", "when the process began",
        "as old as the run", "younger: it was started again; log.txt says why", EVERY
    ),
)

RUN_METRICS = WORKERS + ACTING + REPLAYING + MAILBOX_METRICS + PROCESSES
