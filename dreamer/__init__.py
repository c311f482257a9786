"""DreamerV2: a discrete world model, and a policy learned inside it. torch and the standard library only.

Read in this order: types, equations, nets, rssm, world_model, behaviors/actor_critic (and ppo), agent.
"""
