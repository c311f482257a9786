"""DreamerV2: a discrete world model, and a policy learned inside it. torch and the standard library only.

Read in this order: config, types, equations, nets, rssm, world_model, behaviors/parts, behaviors/actor_critic, agent,
then learner/step.py: one update of everything. Optional: pictures (encoders and decoders), fast_observe (RSSM.observe
in a faster form), insight (numbers to look at), and the other ways to get a policy: behaviors/ppo, behaviors/cem
(PlaNet's planner), behaviors/cma_es (World Models' controller), search and behaviors/mcts (search as in MuZero).
"""
