"""Python imports this at its start where it is on PYTHONPATH: a fault in every Ray process that plays a role.

SABOTAGE=learn: the learner's loop raises; optimizers: its constructor does; act: choosing actions does;
inline: the learner's loop of an inline run raises.
"""

import os
import sys

FAULT = os.environ.get("SABOTAGE", "")


def fail(*arguments: object, **options: object) -> None:
    raise ValueError(f"a wrong value in {FAULT}")


if FAULT == "inline" or (FAULT and any("default_worker" in word for word in sys.orig_argv)):
    import dreamer.agent
    import learner.loop
    import learner.step

    match FAULT:
        case "learn" | "inline":
            learner.loop.learn = fail
        case "optimizers":
            learner.step.make_optimizers = fail
        case "act":
            dreamer.agent.Agent.policy_step = fail
