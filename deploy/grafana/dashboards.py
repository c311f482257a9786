"""The Grafana dashboards, written down once: `python -m deploy.grafana.dashboards` writes dashboards/*.json.

No query asks for a role or an instance, except where workers are told apart: the inline runtime is one process.
"""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana import shared
from deploy.grafana.panels import RED, YELLOW, Dashboard, Row, graph, heat, line, reference, stat, to_json
from deploy.grafana.shared import AGENT, AGO, BYTES, EACH, GPU, RATIO, RAY, SECONDS, age, quantiles, rate

# One argument a line would make these pages unreadable.
# fmt: off

OUT = Path(__file__).parent / "dashboards"

OVERVIEW = Dashboard("overview", "Overview", "Is it learning, is it fast, is anything broken?", (
    Row("Is it learning, is it fast, is anything broken?", (
        stat("Score now", "Mean of the last 100 games of training. Random play of Breakout has 1 to 2, a human 30.",
             "dreamer_driver_score_points", unit="none", width=4),
        stat("Played", "Emulator frames of the whole run, resumes included: the unit of published curves.",
             "dreamer_driver_frames"),
        stat("Frames a second", "Emulator frames in a second, all games. 0: the games stand still.",
             rate("dreamer_actor_frames_total"), unit="frames/s"),
        stat("Updates a second", "Of the world model. 0 while the replay is being filled, constant afterwards.",
             rate("dreamer_learner_updates_total"), unit="updates/s"),
        shared.MISSING,
        stat("Alerts", "Alerts that fire now: the table below says which, docs/runbook.md what to do.",
             'sum(ALERTS{alertstate="firing"}) or vector(0)', limits=((1, RED),), width=2),
        shared.NONFINITE,
        shared.CHECKPOINT_AGE._replace(width=4),
    )),
    Row("Is it learning?", (
        shared.SCORE_GRAPH,
        shared.SIGHT._replace(width=12, height=9),
        shared.SCORE_HEAT,
        shared.RETURNS,
        shared.POLICY_ENTROPY,
    )),
    Row("Is it fast?", (
        shared.SPEED._replace(width=6), shared.PLAYING._replace(width=6), shared.PHASES._replace(width=6),
        shared.WAITS._replace(width=6),
    )),
    Row("Is anything broken?", (
        graph("Processes", "That answer, by role: should be constant.", line("sum by (role) (up)", "{{role}}"), low=0,
              width=6),
        shared.RESTARTS._replace(width=6), shared.MESSAGES._replace(width=6), shared.RATIOS._replace(width=6),
        graph("Alerts that fire", "Should be empty. Each has its lines in docs/runbook.md.",
              line('sum by (alertname, severity, role, instance) (ALERTS{alertstate="firing"})', "alerts"),
              kind="table", width=24, height=5, only="a firing alert"),
    )),
))

LEARNER = Dashboard("learner", "Learner", "The time of the learner, its actor and its critic.", (
    Row("Speed", (
        stat("Updates", "Of the whole run, resumes included.", "dreamer_driver_updates"),
        stat("Updates by this process", "Since it was started, maybe again.", "sum(dreamer_learner_updates_total)"),
        stat("Seconds per update", "Everything included. Should be constant.",
             f"1 / ({rate('dreamer_learner_updates_total')} > 0)", unit=SECONDS),
        stat("Waiting for data", "Share of its time. Should be below 10 %.",
             rate("dreamer_learner_wait_seconds_total"), unit=RATIO, limits=((0.1, YELLOW), (0.5, RED))),
        shared.NONFINITE, shared.CHECKPOINT_AGE,
        stat("Size of a save", "Of the checkpoint without the replay. Constant.",
             "max(dreamer_learner_checkpoint_bytes)", unit=BYTES),
        shared.SPEED, shared.PHASES,
        graph("Seconds per update, by phase", "What one update costs. Should be constant; a phase that grows is the "
              "culprit.", line(f"{rate('dreamer_learner_phase_seconds_total', by='phase')} / on () group_left () "
              f"({rate('dreamer_learner_updates_total')} > 0)", "{{phase}}"), unit=SECONDS, stack=True, low=0),
    )),
    Row("Actor", (
        shared.POLICY_ENTROPY,
        graph("Advantage", "How much actions differ in what they bring, in dreams. 0: dreams have no rewards.",
              line("dreamer_learner_advantage_abs", "mean size"), low=0),
        graph("Scale of returns", "What advantages are divided by. Preset cpu: always 1; fast: 1 until returns spread.",
              line("dreamer_learner_return_scale", "scale"), low=0),
        graph("Loss of the actor", "Around 0; its sign means nothing.", line("dreamer_learner_actor_loss", "loss")),
        graph("Gradient norm of the actor", "Before clipping. 0: no advantage, nothing to learn from.",
              line("dreamer_learner_actor_grad_norm", "norm"), log=True),
        graph("Clipped probabilities", "Share of actions that moved beyond PPO's clip. 0.05 to 0.3 is good; more: "
              "lower train.actor_lr.", line("dreamer_learner_ppo_clipped_ratio", "clipped"), unit=RATIO,
              only="behavior ppo"),
    )),
    Row("Critic and dreams", (
        shared.RETURNS,
        graph("Spread of returns", "Between dreams. 0: no dream is better than another, nothing to learn.",
              line("dreamer_learner_imagined_return_std", "standard deviation"), low=0),
        graph("Loss of the critic", "Bounded; explodes when values chase themselves: lower train.critic_lr.",
              line("dreamer_learner_critic_loss", "loss")),
        graph("Gradient norm of the critic", "Before clipping; at the clip (100) for long: lower train.critic_lr.",
              line("dreamer_learner_critic_grad_norm", "norm"), log=True, limits=((100, RED),)),
        graph("Reward, dreamt and real", "Per step. Should be near each other; dreams far above: the policy exploits "
              "the model's errors.", line("dreamer_learner_imagined_reward", "in dreams"),
              line("dreamer_learner_batch_reward", "in the replay"), low=0),
        graph("Why it stands still", "Entropy of the policy as a share of its largest: below 0.1 nothing new is tried. "
              "Return of dreams over the replay's: far above 1 the model's errors are exploited. Returns of the replay "
              "that the critic explains: should be above 0.5.",
              line("dreamer_learner_actor_entropy_ratio", "entropy"),
              line("dreamer_learner_return_dreamt_to_real", "return, dreamt over real"),
              line("dreamer_learner_value_explained", "explained by the critic")),
        graph("How long dreams count", "Discount just below model.gamma, weight about 0.9. Near 0: dreams end at once.",
              line("dreamer_learner_imagined_discount", "discount of a step"),
              line("dreamer_learner_imagined_weight", "what still counts of a dream"), low=0, high=1),
    )),
    Row("Data and device", (
        shared.SAMPLE_AGE,
        graph("Memory on the GPU", "Constant after the first updates.",
              line("max(dreamer_learner_gpu_memory_bytes)", "held by torch"), unit=BYTES, low=0, only=GPU),
        graph("GPU in use", "Share of time in which it computed something. Should be above 90 %; else see the phases.",
              line("max(dreamer_learner_gpu_utilisation_ratio)", "in use"), unit=RATIO, low=0, high=1, only=GPU),
    )),
))

WORLD_MODEL = Dashboard("world-model", "World model", "What the model sees, foresees, and where it errs.", (
    Row("What it sees and foresees", (
        shared.SIGHT._replace(width=12),
        graph("Balls, so many steps ahead", "Share of the balls of a batch that the model shows within 2 pixels. After "
              "an hour of preset cpu: 0.98 now, 0.54 after 5 steps, 0.33 after 15.",
              line("dreamer_learner_ball_recall_ratio", "{{ahead}} ahead"), unit=RATIO, low=0, high=1, width=12),
        graph("Error of the dreamt ball", "Pixels between the dreamt ball and the real one, where both are there. "
              "Should fall; after an hour 3.4 of 40 after 15 steps.",
              line("dreamer_learner_ball_error_pixels", "{{ahead}} ahead"), low=0),
        graph("Rewards foreseen", "Recall: of the rewards that came, the share foreseen (0.87 after an hour). "
              "Precision: of those foreseen, the share that came.",
              line("dreamer_learner_reward_recall_ratio", "recall"),
              line("dreamer_learner_reward_precision_ratio", "precision"), unit=RATIO, low=0, high=1),
        graph("Ends foreseen", "The same of ends of games or lives: recall 0.6 to 0.8 after an hour. 0 after 5,000 "
              "updates: dreams do not fear the end.", line("dreamer_learner_terminal_recall_ratio", "recall"),
              line("dreamer_learner_terminal_precision_ratio", "precision"), unit=RATIO, low=0, high=1),
    )),
    Row("Latent state", (
        graph("KL", "From prior to posterior, nats: what a picture tells that was not foreseen. Here 5 to 7; near 0: "
              "the latent state is dead; ten times as high: the dynamics lost track.",
              line("dreamer_learner_kl_nats", "KL"), line("dreamer_learner_kl_loss", "as it is trained"), low=0),
        graph("Entropies", "Nats. The prior's should stay above the posterior's; equal for long: they tell nothing.",
              line("dreamer_learner_prior_entropy_nats", "prior: what is expected"),
              line("dreamer_learner_post_entropy_nats", "posterior: what is seen"), low=0),
        graph("Gradient norm of the model", "Before clipping; at the clip (100) for long: lower train.model_lr.",
              line("dreamer_learner_model_grad_norm", "norm"), log=True, limits=((100, RED),)),
    )),
    Row("Losses", (
        graph("Loss of the model", "All parts (Eq. 2). Falls fast, then slowly; its floor is the pictures' constant.",
              line("dreamer_learner_model_loss", "all"), line("dreamer_learner_image_loss", "pictures"), width=6),
        graph("Error of moving pixels", "Squared brightness, only where something moved: falling means the ball "
              "appears.", line("dreamer_learner_moved_mse", "error"), log=True, width=6),
        graph("Loss of rewards", "Nats. Should fall.", line("dreamer_learner_reward_loss", "rewards"), width=6),
        graph("Loss of ends", "Nats. Should fall.", line("dreamer_learner_discount_loss", "ends"), width=6),
    )),
))

ACTORS = Dashboard("actors", "Actors", "The games, and the processes that play them.", (
    Row("Games", (
        shared.SCORE_GRAPH._replace(width=12),
        graph("Spread of scores", "Of the games of the last 10 minutes. The upper lines should rise first.",
              *quantiles("dreamer_actor_episode_score_points", "[10m]"), width=12),
        shared.SCORE_HEAT,
        heat("Lengths", "How many games lasted how many policy steps: grows with the score. All at the top: the agent "
             "avoids the end instead of scoring.", "dreamer_actor_episode_length_steps"),
        graph("Games finished", "In a minute: falls as games get longer. None for an hour: the ball may never be "
              "served.", line("60 * sum(rate(dreamer_actor_episodes_total[5m]))", "games a minute"), low=0),
        graph("Where lives are lost", "Of the lives that had so many rewards (bricks), the share lost before the next "
              "one; last 100 games. High at 0: a serve is given up; a jump at 4: the ball is faster from there on.",
              line("dreamer_driver_lives_lost_ratio", "at {{rewards}}"), unit=RATIO, low=0, high=1),
    )),
    Row("Speed", (
        shared.PLAYING,
        graph("Frames", "Emulator frames in a second, all games together: policy steps times the frame skip.",
              line(rate("dreamer_actor_frames_total"), "frames a second"), unit="frames/s", low=0),
        graph("Steps of each process", "Policy steps in a second of the twelve fastest; should be alike.",
              line(EACH.format("rate(dreamer_actor_policy_steps_total[I])"), "{{instance}}"), unit="steps/s", low=0),
        graph("Time of a step", "One policy step of all games of a process, waiting left out. Preset cpu, 8 games: "
              "below 0.1 s. Long: the cores are shared with too much.",
              *quantiles("dreamer_actor_step_seconds"), unit=SECONDS, log=True),
        graph("Held back by the replay", "Share of each actor's time. Near 1 on a machine with free cores: fewer "
              "actors would do.", line(EACH.format('rate(dreamer_actor_wait_seconds_total{on="replay"}[I])'),
              "{{instance}}"), unit=RATIO, low=0, high=1),
        shared.WAITS,
    )),
    Row("Policy and experience", (
        graph("Age of the policy", "Updates behind the newest that the actor has heard of: a few times "
              "train.publish_every (10). Hundreds: stale weights.",
              line(EACH.format("dreamer_actor_policy_age_updates"), "{{instance}}"), low=0),
        graph("Policy played and learner's update", "The actors' lines should follow the learner's. One that stands "
              "still: that actor does not reach the board.",
              line(EACH.format("dreamer_actor_policy_version_updates"), "{{instance}}"),
              reference("dreamer_driver_updates", "learner")),
        graph("Steps safe in the replay", "Share of the played steps that the replay has confirmed: near 1.",
              line(f"{rate('dreamer_actor_acknowledged_steps_total')} / "
                   f"({rate('dreamer_actor_policy_steps_total')} > 0)", "confirmed"),
              line(f"{rate('dreamer_actor_dropped_steps_total')} / ({rate('dreamer_actor_policy_steps_total')} > 0)",
                   "dropped: games shorter than a window"), unit=RATIO, low=0),
        graph("Failed calls", "That were tried again, in total. Should stay flat; rising: board or replay is away.",
              line("sum by (on) (dreamer_actor_errors_total)", "{{on}}"), low=0),
        shared.RESTARTS,
        graph("Policy steps", "Of the whole run, resumes included.", line("dreamer_driver_policy_steps", "steps"),
              low=0),
    )),
))

REPLAY = Dashboard("replay", "Replay", "The memory between the games and the learner.", (
    Row("How full, how fast", (
        graph("Steps", "That can be sampled: rises to the capacity and stays. Falls to 0: restarted without a save.",
              line("max(dreamer_replay_size_steps)", "held"),
              reference("max(dreamer_replay_capacity_steps)", "capacity"), low=0),
        graph("Memory", "Steps uncompressed (Reverb stores them smaller), and the process that holds them. Flat once "
              "full.", line("max(dreamer_replay_size_bytes)", "steps, uncompressed"),
              line("max(dreamer_replay_resident_bytes)", "its process"), unit=BYTES, low=0),
        graph("Steps in and out", "In a second. Out should be in times the replay ratio.",
              line(f"{rate('dreamer_replay_inserted_windows_total')} * max(dreamer_replay_stride_steps)", "in"),
              line(f"{rate('dreamer_replay_sampled_windows_total')} * max(dreamer_replay_window_steps)", "out"),
              unit="steps/s", low=0),
    )),
    Row("Who sets the pace", (
        shared.RATIOS,
        graph("Held back by the rate limiter", "1: that side has to wait now. One of them most of the time; neither "
              "and nothing moves: a worker is missing.", line("max by (side) (dreamer_replay_waiting)", "{{side}}"),
              low=0, high=1),
        shared.WAITS,
    )),
    Row("Age and saves", (
        shared.SAMPLE_AGE,
        graph("Since the last save", "Of the replay. At most train.checkpoint_every (300 s) and some.",
              line(age("dreamer_replay_checkpoint_timestamp_seconds"), "seconds ago"), unit=SECONDS, low=0,
              limits=((900, YELLOW), (1800, RED))),
        graph("Time of a save", "Seconds. Minutes: a slow disk; save less often.",
              line("max(dreamer_replay_checkpoint_seconds)", "seconds"), unit=SECONDS, low=0),
    )),
))

CLUSTER = Dashboard("cluster", "Cluster", "The processes, the board between them, and the machines.", (
    Row("Processes", (
        stat("Running for", "Since this invocation of train began.", age("dreamer_run_start_timestamp_seconds"),
             unit=AGO, width=4),
        shared.MISSING._replace(width=4),
        graph("What runs", "Game, runtime, device, precision and version of this run.",
              line("dreamer_run_info", "run"), kind="table", width=16, height=4),
        graph("Expected and there", "By role. Solid and dashed should lie on each other.",
              line("sum by (role) (up)", "{{role}}"),
              line("sum by (role) (dreamer_workers_expected)", "{{role}}, expected"), low=0, only=RAY),
        shared.RESTARTS, shared.MESSAGES,
        graph("CPU", "Cores in use by each process. Together less than the machine has.",
              line(EACH.format("rate(dreamer_process_cpu_seconds_total[I])"), "{{instance}}"), stack=True, low=0),
        graph("Memory", "Of each process. Flat after some minutes; rising for hours is a leak.",
              line(EACH.format("dreamer_process_resident_bytes"), "{{instance}}"), unit=BYTES, stack=True, low=0),
        graph("Age of the processes", "As old as the run; younger: started again.",
              line(age("dreamer_process_start_timestamp_seconds", by="instance"), "{{instance}}"), unit=SECONDS, low=0),
    )),
    Row("Board: weights to the actors, news to the driver", (
        graph("Policies", "In a second. Pulled: up to published times the number of actors.",
              line(rate("dreamer_board_publications_total"), "published"),
              line(rate("dreamer_board_pulls_total"), "pulled"), unit="1/s", low=0, width=6, only=RAY),
        graph("Age of the newest policy", "Seconds since it was published. Growing: the learner waits, hangs or is "
              "gone.", line(age("dreamer_board_weights_timestamp_seconds"), "seconds"), unit=SECONDS, low=0, width=6,
              limits=((60, RED),), only=RAY),
        graph("Messages waiting", "For the driver. Below ten for each worker; rising: the driver is starved of CPU.",
              line("max(dreamer_board_messages_waiting)", "messages"), low=0, width=6, only=RAY),
        graph("Size of a policy", "What each actor fetches. Constant.",
              line("max(dreamer_board_weights_bytes)", "bytes"), unit=BYTES, low=0, width=6, only=RAY),
    )),
    Row("Machines, as Ray sees them", (
        graph("CPU of the machines", "Share in use, of each machine.",
              line("avg by (instance) (ray_node_cpu_utilization) / 100", "{{instance}}"), unit=RATIO, low=0, high=1,
              width=6, only=AGENT),
        graph("Memory of the machines", "Share in use, of each machine. Above 90 %: Ray kills workers at 95 %.",
              line("sum by (instance) (ray_node_mem_used) / sum by (instance) (ray_node_mem_total)", "{{instance}}"),
              unit=RATIO, low=0, high=1, limits=((0.9, RED),), width=6, only=AGENT),
        graph("Shared memory", "Of Ray's object store: weights on their way. Far below its size.",
              line("sum by (instance) (ray_object_store_memory)", "{{instance}}"), unit=BYTES, low=0, width=6,
              only=AGENT),
        graph("GPUs", "Share in use, of each GPU.",
              line("avg by (instance, GpuIndex) (ray_node_gpus_utilization) / 100", "{{instance}} {{GpuIndex}}"),
              unit=RATIO, low=0, width=6, only=f"{AGENT}, and {GPU}"),
    )),
))

DASHBOARDS = (OVERVIEW, LEARNER, WORLD_MODEL, ACTORS, REPLAY, CLUSTER)
NOT_SHOWN: dict[str, str] = {}  # metric -> why no panel shows it


def files() -> dict[str, str]:
    """File name -> what it must contain."""
    return {f"{one.name}.json": json.dumps(to_json(one), indent=1, ensure_ascii=False) + "\n" for one in DASHBOARDS}


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for name, text in files().items():
        (OUT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
