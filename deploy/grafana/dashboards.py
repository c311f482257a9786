"""The Grafana dashboards, written down once: `python -m deploy.grafana.dashboards` writes dashboards/*.json.

No query asks for a role or an instance, except where workers are told apart: the inline runtime is one process.
"""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana import shared
from deploy.grafana.panels import RED, YELLOW, Line, graph, heat, page, reference, stat, table, wide
from deploy.grafana.shared import AGENT, AGO, BYTES, EACH, GPU, RATIO, RAY, SECONDS, age, quantiles, rate

# One argument a line would make these pages unreadable.
# fmt: off

OUT = Path(__file__).parent / "dashboards"

OVERVIEW = page("overview", "Overview", "Is it learning, is it fast, is anything broken?", {
    "Is it learning, is it fast, is anything broken?": (
        stat("Score now", "Mean of the last 100 games of training. Random play of Breakout has 1 to 2, a human 30.",
             "dreamer_driver_score_points").unit("none").span(4),
        stat("Played", "Emulator frames of the whole run, resumes included: the unit of published curves.",
             "dreamer_driver_frames"),
        stat("Frames a second", "Emulator frames in a second, all games. 0: the games stand still.",
             rate("dreamer_actor_frames_total")).unit("frames/s"),
        stat("Updates a second", "Of the world model. 0 while the replay is being filled, constant afterwards.",
             rate("dreamer_learner_updates_total")).unit("updates/s"),
        shared.MISSING,
        stat("Alerts", "Alerts that fire now: the table below says which, docs/runbook.md what to do.",
             'sum(ALERTS{alertstate="firing"}) or vector(0)', limits=((1, RED),)).span(2),
        shared.NONFINITE,
        wide(shared.CHECKPOINT_AGE, 4),
    ),
    "Is it learning?": (
        shared.SCORE_GRAPH,
        wide(shared.SIGHT, 12).height(9),
        shared.SCORE_HEAT,
        shared.RETURNS,
        shared.POLICY_ENTROPY,
    ),
    "Is it fast?": (
        wide(shared.SPEED, 6), wide(shared.PLAYING, 6), wide(shared.PHASES, 6), wide(shared.WAITS, 6),
    ),
    "Is anything broken?": (
        graph("Processes", "That answer, by role: should be constant.",
              Line("sum by (role) (up)", "{{role}}")).min(0).span(6),
        wide(shared.RESTARTS, 6), wide(shared.MESSAGES, 6), wide(shared.RATIOS, 6),
        table("Alerts that fire", "Should be empty. Each has its lines in docs/runbook.md.",
              Line('sum by (alertname, severity, role, instance) (ALERTS{alertstate="firing"})', "alerts"),
              only="a firing alert").span(24).height(5),
    ),
})

LEARNER = page("learner", "Learner", "The time of the learner, its actor and its critic.", {
    "Speed": (
        stat("Updates", "Of the whole run, resumes included.", "dreamer_driver_updates"),
        stat("Updates by this process", "Since it was started, maybe again.", "sum(dreamer_learner_updates_total)"),
        stat("Seconds per update", "Everything included. Should be constant.",
             f"1 / ({rate('dreamer_learner_updates_total')} > 0)").unit(SECONDS),
        stat("Waiting for data", "Share of its time. Should be below 10 %.",
             rate("dreamer_learner_wait_seconds_total"), limits=((0.1, YELLOW), (0.5, RED))).unit(RATIO),
        shared.NONFINITE, shared.CHECKPOINT_AGE,
        stat("Size of a save", "Of the checkpoint without the replay. Constant.",
             "max(dreamer_learner_checkpoint_bytes)").unit(BYTES).span(6),
        shared.SPEED, shared.PHASES,
        graph("Seconds per update, by phase", "What one update costs. Should be constant; a phase that grows is the "
              "culprit.", Line(f"{rate('dreamer_learner_phase_seconds_total', by='phase')} / on () group_left () "
              f"({rate('dreamer_learner_updates_total')} > 0)", "{{phase}}"), stack=True).unit(SECONDS).min(0),
    ),
    "Actor": (
        shared.POLICY_ENTROPY,
        graph("Advantage", "How much actions differ in what they bring, in dreams. 0: dreams have no rewards.",
              Line("dreamer_learner_advantage_abs", "mean size")).min(0),
        graph("Scale of returns", "What advantages are divided by. Preset cpu: always 1; fast: 1 until returns spread.",
              Line("dreamer_learner_return_scale", "scale")).min(0),
        graph("Loss of the actor", "Around 0; its sign means nothing.", Line("dreamer_learner_actor_loss", "loss")),
        graph("Gradient norm of the actor", "Before clipping. 0: no advantage, nothing to learn from.",
              Line("dreamer_learner_actor_grad_norm", "norm"), log=True),
        graph("Clipped probabilities", "Share of actions that moved beyond PPO's clip. 0.05 to 0.3 is good; more: "
              "lower train.actor_lr.", Line("dreamer_learner_ppo_clipped_ratio", "clipped"),
              only="behavior ppo").unit(RATIO),
    ),
    "Critic and dreams": (
        shared.RETURNS,
        graph("Spread of returns", "Between dreams. 0: no dream is better than another, nothing to learn.",
              Line("dreamer_learner_imagined_return_std", "standard deviation")).min(0),
        graph("Loss of the critic", "Bounded; explodes when values chase themselves: lower train.critic_lr.",
              Line("dreamer_learner_critic_loss", "loss")),
        graph("Gradient norm of the critic", "Before clipping; at the clip (100) for long: lower train.critic_lr.",
              Line("dreamer_learner_critic_grad_norm", "norm"), log=True, limits=((100, RED),)),
        graph("Reward, dreamt and real", "Per step. Should be near each other; dreams far above: the policy exploits "
              "the model's errors.", Line("dreamer_learner_imagined_reward", "in dreams"),
              Line("dreamer_learner_batch_reward", "in the replay")).min(0),
        graph("Why it stands still", "Entropy of the policy as a share of its largest: below 0.1 nothing new is tried. "
              "Return of dreams over the replay's: far above 1 the model's errors are exploited. Returns of the replay "
              "that the critic explains: should be above 0.5.",
              Line("dreamer_learner_actor_entropy_ratio", "entropy"),
              Line("dreamer_learner_return_dreamt_to_real", "return, dreamt over real"),
              Line("dreamer_learner_value_explained", "explained by the critic")),
        graph("How long dreams count", "Discount just below model.gamma, weight about 0.9. Near 0: dreams end at once.",
              Line("dreamer_learner_imagined_discount", "discount of a step"),
              Line("dreamer_learner_imagined_weight", "what still counts of a dream")).min(0).max(1),
    ),
    "Data and device": (
        shared.SAMPLE_AGE,
        graph("Memory on the GPU", "Constant after the first updates.",
              Line("max(dreamer_learner_gpu_memory_bytes)", "held by torch"), only=GPU).unit(BYTES).min(0),
        graph("GPU in use", "Share of time in which it computed something. Should be above 90 %; else see the phases.",
              Line("max(dreamer_learner_gpu_utilisation_ratio)", "in use"), only=GPU).unit(RATIO).min(0).max(1),
    ),
})

WORLD_MODEL = page("world-model", "World model", "What the model sees, foresees, and where it errs.", {
    "What it sees and foresees": (
        graph("Balls, so many steps ahead", "Share of the balls of a batch that the model shows within 2 pixels. After "
              "an hour of preset cpu: 0.99 now, 0.58 after 5 steps, 0.22 after 15.",
              Line("dreamer_learner_ball_recall_ratio", "{{ahead}} ahead")).unit(RATIO).min(0).max(1).span(12),
        wide(shared.SIGHT, 12),
        graph("Error of the dreamt ball", "Pixels between the dreamt ball and the real one, where both are there. "
              "Should fall; after an hour 4.6 of 40 after 15 steps.",
              Line("dreamer_learner_ball_error_pixels", "{{ahead}} ahead")).min(0),
        graph("Rewards foreseen", "Recall: of the rewards that came, the share foreseen (0.83 after an hour). "
              "Precision: of those foreseen, the share that came.",
              Line("dreamer_learner_reward_recall_ratio", "recall"),
              Line("dreamer_learner_reward_precision_ratio", "precision")).unit(RATIO).min(0).max(1),
        graph("Ends foreseen", "The same of ends of games or lives: recall 0.6 to 0.7 after an hour. 0 after 5,000 "
              "updates: dreams do not fear the end.", Line("dreamer_learner_terminal_recall_ratio", "recall"),
              Line("dreamer_learner_terminal_precision_ratio", "precision")).unit(RATIO).min(0).max(1),
    ),
    "Latent state": (
        graph("KL", "From prior to posterior, nats: what a picture tells that was not foreseen. cpu: 10 to 13; near 0: "
              "the latent state is dead; ten times as high: the dynamics lost track.",
              Line("dreamer_learner_kl_nats", "KL"), Line("dreamer_learner_kl_loss", "as it is trained")).min(0),
        graph("Entropies", "Nats. The prior's should stay above the posterior's; equal for long: they tell nothing.",
              Line("dreamer_learner_prior_entropy_nats", "prior: what is expected"),
              Line("dreamer_learner_post_entropy_nats", "posterior: what is seen")).min(0),
        graph("Gradient norm of the model", "Before clipping; at the clip (100) for long: lower train.model_lr.",
              Line("dreamer_learner_model_grad_norm", "norm"), log=True, limits=((100, RED),)),
    ),
    "Losses": (
        graph("Loss of the model", "All parts (Eq. 2). Falls fast, then slowly; its floor is the pictures' constant.",
              Line("dreamer_learner_model_loss", "all"), Line("dreamer_learner_image_loss", "pictures")).span(6),
        graph("Error of moving pixels", "Squared brightness, only where something moved: falling means the ball "
              "appears.", Line("dreamer_learner_moved_mse", "error"), log=True).span(6),
        graph("Loss of rewards", "Nats. Should fall.", Line("dreamer_learner_reward_loss", "rewards")).span(6),
        graph("Loss of ends", "Nats. Should fall.", Line("dreamer_learner_discount_loss", "ends")).span(6),
    ),
})

ACTORS = page("actors", "Actors", "The games, and the processes that play them.", {
    "Games": (
        wide(shared.SCORE_GRAPH, 12),
        graph("Spread of scores", "Of the games of the last 10 minutes. The upper lines should rise first.",
              *quantiles("dreamer_actor_episode_score_points", "[10m]")).span(12),
        shared.SCORE_HEAT,
        heat("Lengths", "How many games lasted how many policy steps: grows with the score. All at the top: the agent "
             "avoids the end instead of scoring.", "dreamer_actor_episode_length_steps"),
        graph("Games finished", "In a minute: falls as games get longer. None for an hour: the ball may never be "
              "served.", Line("60 * sum(rate(dreamer_actor_episodes_total[5m]))", "games a minute")).min(0),
        graph("Where lives are lost", "Of the lives that had so many rewards (bricks), the share lost before the next "
              "one; last 100 games. High at 0: a serve is given up; a jump at 4: the ball is faster from there on.",
              Line("dreamer_driver_lives_lost_ratio", "at {{rewards}}")).unit(RATIO).min(0).max(1),
    ),
    "Speed": (
        shared.PLAYING,
        graph("Frames", "Emulator frames in a second, all games together: policy steps times the frame skip.",
              Line(rate("dreamer_actor_frames_total"), "frames a second")).unit("frames/s").min(0),
        graph("Steps of each process", "Policy steps in a second of the twelve fastest; should be alike.",
              Line(EACH.format("rate(dreamer_actor_policy_steps_total[I])"), "{{instance}}")).unit("steps/s").min(0),
        graph("Time of a step", "One policy step of all games of a process, waiting left out. Preset cpu, 8 games: "
              "below 0.1 s. Long: the cores are shared with too much.",
              *quantiles("dreamer_actor_step_seconds"), log=True).unit(SECONDS),
        graph("Held back by the replay", "Share of each actor's time. Near 1 on a machine with free cores: fewer "
              "actors would do.", Line(EACH.format('rate(dreamer_actor_wait_seconds_total{on="replay"}[I])'),
              "{{instance}}")).unit(RATIO).min(0).max(1),
        shared.WAITS,
    ),
    "Policy and experience": (
        graph("Age of the policy", "Updates behind the newest that the actor has heard of: a few times "
              "train.publish_every (10). Hundreds: stale weights.",
              Line(EACH.format("dreamer_actor_policy_age_updates"), "{{instance}}")).min(0),
        graph("Policy played and learner's update", "The actors' lines should follow the learner's. One that stands "
              "still: that actor does not reach the mailbox.",
              Line(EACH.format("dreamer_actor_policy_version_updates"), "{{instance}}"),
              reference("dreamer_driver_updates", "learner")),
        graph("Steps safe in the replay", "Share of the played steps that the replay has confirmed: near 1.",
              Line(f"{rate('dreamer_actor_acknowledged_steps_total')} / "
                   f"({rate('dreamer_actor_policy_steps_total')} > 0)", "confirmed"),
              Line(f"{rate('dreamer_actor_dropped_steps_total')} / ({rate('dreamer_actor_policy_steps_total')} > 0)",
                   "dropped: games shorter than a window")).unit(RATIO).min(0),
        graph("Failed calls", "That were tried again, in total. Should stay flat; rising: mailbox or replay is away.",
              Line("sum by (on) (dreamer_actor_errors_total)", "{{on}}")).min(0),
        shared.RESTARTS,
        graph("Policy steps", "Of the whole run, resumes included.",
              Line("dreamer_driver_policy_steps", "steps")).min(0),
    ),
})

REPLAY = page("replay", "Replay", "The memory between the games and the learner.", {
    "How full, how fast": (
        graph("Steps", "That can be sampled: rises to the capacity and stays. Falls to 0: restarted without a save.",
              Line("max(dreamer_replay_size_steps)", "held"),
              reference("max(dreamer_replay_capacity_steps)", "capacity")).min(0),
        graph("Memory", "Steps uncompressed (Reverb stores them smaller), and the process that holds them. Flat once "
              "full.", Line("max(dreamer_replay_size_bytes)", "steps, uncompressed"),
              Line("max(dreamer_replay_resident_bytes)", "its process")).unit(BYTES).min(0),
        graph("Steps in and out", "In a second. Out should be in times the replay ratio.",
              Line(f"{rate('dreamer_replay_inserted_windows_total')} * max(dreamer_replay_stride_steps)", "in"),
              Line(f"{rate('dreamer_replay_sampled_windows_total')} * max(dreamer_replay_window_steps)", "out")
              ).unit("steps/s").min(0),
    ),
    "Who sets the pace": (
        shared.RATIOS,
        graph("Held back by the rate limiter", "1: that side has to wait now. One of them most of the time; neither "
              "and nothing moves: a worker is missing.",
              Line("max by (side) (dreamer_replay_waiting)", "{{side}}")).min(0).max(1),
        shared.WAITS,
    ),
    "Age and saves": (
        shared.SAMPLE_AGE,
        graph("Since the last save", "Of the replay. At most train.checkpoint_every (300 s) and some.",
              Line(age("dreamer_replay_checkpoint_timestamp_seconds"), "seconds ago"),
              limits=((900, YELLOW), (1800, RED))).unit(SECONDS).min(0),
        graph("Time of a save", "Seconds. Minutes: a slow disk; save less often.",
              Line("max(dreamer_replay_checkpoint_seconds)", "seconds")).unit(SECONDS).min(0),
    ),
})

CLUSTER = page("cluster", "Cluster", "The processes, the mailbox between them, and the machines.", {
    "Processes": (
        stat("Running for", "Since this invocation of train began.", age("dreamer_run_start_timestamp_seconds")
             ).unit(AGO).span(4),
        wide(shared.MISSING, 4),
        table("What runs", "Game, runtime, device, precision and version of this run.",
              Line("dreamer_run_info", "run")).span(16).height(4),
        graph("Expected and there", "By role. Solid and dashed should lie on each other.",
              Line("sum by (role) (up)", "{{role}}"),
              Line("sum by (role) (dreamer_workers_expected)", "{{role}}, expected"), only=RAY).min(0),
        shared.RESTARTS, shared.MESSAGES,
        graph("CPU", "Cores in use by each process. Together less than the machine has.",
              Line(EACH.format("rate(dreamer_process_cpu_seconds_total[I])"), "{{instance}}"), stack=True).min(0),
        graph("Memory", "Of each process. Flat after some minutes; rising for hours is a leak.",
              Line(EACH.format("dreamer_process_resident_bytes"), "{{instance}}"), stack=True).unit(BYTES).min(0),
        graph("Age of the processes", "As old as the run; younger: started again.",
              Line(age("dreamer_process_start_timestamp_seconds", by="instance"), "{{instance}}")).unit(SECONDS).min(0),
    ),
    "Mailbox: weights to the actors, news to the driver": (
        graph("Policies", "In a second. Pulled: up to published times the number of actors.",
              Line(rate("dreamer_board_publications_total"), "published"),
              Line(rate("dreamer_board_pulls_total"), "pulled"), only=RAY).unit("1/s").min(0).span(6),
        graph("Age of the newest policy", "Seconds since it was published. Growing: the learner waits, hangs or is "
              "gone.", Line(age("dreamer_board_weights_timestamp_seconds"), "seconds"),
              limits=((60, RED),), only=RAY).unit(SECONDS).min(0).span(6),
        graph("Messages waiting", "For the driver. Below ten for each worker; rising: the driver is starved of CPU.",
              Line("max(dreamer_board_messages_waiting)", "messages"), only=RAY).min(0).span(6),
        graph("Size of a policy", "What each actor fetches. Constant.",
              Line("max(dreamer_board_weights_bytes)", "bytes"), only=RAY).unit(BYTES).min(0).span(6),
    ),
    "Machines, as Ray sees them": (
        graph("CPU of the machines", "Share in use, of each machine.",
              Line("avg by (instance) (ray_node_cpu_utilization) / 100", "{{instance}}"), only=AGENT
              ).unit(RATIO).min(0).max(1).span(6),
        graph("Memory of the machines", "Share in use, of each machine. Above 90 %: Ray kills workers at 95 %.",
              Line("sum by (instance) (ray_node_mem_used) / sum by (instance) (ray_node_mem_total)", "{{instance}}"),
              limits=((0.9, RED),), only=AGENT).unit(RATIO).min(0).max(1).span(6),
        graph("Shared memory", "Of Ray's object store: weights on their way. Far below its size.",
              Line("sum by (instance) (ray_object_store_memory)", "{{instance}}"),
              only=AGENT).unit(BYTES).min(0).span(6),
        graph("GPUs", "Share in use, of each GPU.",
              Line("avg by (instance, GpuIndex) (ray_node_gpus_utilization) / 100", "{{instance}} {{GpuIndex}}"),
              only=f"{AGENT}, and {GPU}").unit(RATIO).min(0).span(6),
    ),
})

DASHBOARDS = (OVERVIEW, LEARNER, WORLD_MODEL, ACTORS, REPLAY, CLUSTER)
NOT_SHOWN: dict[str, str] = {}  # metric -> why no panel shows it


def files() -> dict[str, str]:
    """File name -> what it must contain."""
    names = {one["uid"].removeprefix("dreamer-"): one for one in DASHBOARDS}
    return {f"{name}.json": json.dumps(one, indent=1, ensure_ascii=False) + "\n" for name, one in names.items()}


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for name, text in files().items():
        (OUT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
