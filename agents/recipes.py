"""The agents as recipes: what ``rlab train NAME`` starts. Imports no torch until one is built."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from agents.config import PRESETS, VECTOR_PRESETS, EnvConfig, QExperiment
from agents.policy_config import POLICY_PRESETS, POLICY_VECTOR_PRESETS, PolicyExperiment
from agents.sb3_config import EXPERIMENTS, SB3_PRESETS, VECTOR_STEPS
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig

SUMMARIES = {
    "dqn": "deep Q-network in bf16 batches over many environments (Mnih et al. 2015)",
    "nature": "the same DQN with one environment, batch 32 every 4 steps, as it was published",
}


def default_experiment(preset: str, env: str) -> QExperiment:
    """The settings that a preset starts from on an environment: one set for images, one for vectors."""
    if not env:
        return QExperiment(agent=PRESETS[preset])
    from envs import is_atari

    images = is_atari(env)
    base = QExperiment(agent=(PRESETS if images else VECTOR_PRESETS)[preset])
    run = base.run if images else replace(base.run, evaluate_steps=20_000, checkpoint_steps=20_000)
    return replace(base, run=run, env=replace(base.env, env=env, steps=1_000_000 if images else 80_000))


def build_q(experiment: QExperiment, workshop: Any) -> Any:
    """Build the Learner: environments, agent and their interaction.

    Raises:
        RlabError: the environment is unknown, or the agent cannot play it.
    """
    from agents.dqn import DQN
    from agents.interaction import Interaction
    from envs import make_vec
    from rlab.run.life import Workshop
    from rlab.seeding import derive

    run, env, agent_config = experiment.run, experiment.env, experiment.agent
    seed = derive(run.seed, "environment")
    envs = make_vec(env.env, agent_config.num_envs, seed, protocol=env.protocol, training=True)

    def rehearse(journal: Any) -> Interaction:
        soon = agent_config.num_envs * (agent_config.n_step + 4)
        quick = replace(agent_config, learning_starts=soon, compile="off")
        long = replace(env, steps=max(env.steps, 10**9))
        return build_q(replace(experiment, agent=quick, env=long), Workshop(workshop.device, journal))

    try:
        _, info = envs.reset()
        agent = DQN(
            agent_config,
            envs.single_observation_space,
            envs.num_actions,
            envs.frame_stack,
            "action_mask" in info,
            env.steps,
            run.seed,
            workshop.device,
            workshop.journal,
        )
    except BaseException:
        envs.close()
        raise
    return Interaction(
        agent,
        envs,
        env.env,
        total_steps=env.steps,
        reset_steps=env.reset_steps,
        ticks=max(1, agent_config.train_every // agent_config.num_envs),
        evaluate_episodes=env.evaluate_episodes,
        final_episodes=env.final_episodes,
        seed=run.seed,
        journal=workshop.journal,
        rehearse=rehearse,
    )


for _name, _summary in SUMMARIES.items():
    RECIPES.register(_name)(
        Recipe(
            summary=_summary,
            default=lambda env, preset=_name: default_experiment(preset, env),  # type: ignore[misc]
            build=build_q,
        )
    )


# Policy gradients of our own.

POLICY_SUMMARIES = {
    "reinforce": "Monte-Carlo policy gradient (Williams 1992)",
    "reinforce-baseline": "the same less a learned state value",
    "actor-critic": "one-step actor-critic: the TD error in place of the return",
    "a2c": "advantage actor-critic over many environments (Mnih et al. 2016) with GAE (Schulman et al. 2016)",
}


def default_policy_experiment(preset: str, env: str) -> PolicyExperiment:
    """The settings that a preset starts from on an environment: one set for images, one for vectors."""
    if not env:
        return PolicyExperiment(agent=POLICY_PRESETS[preset])
    from envs import is_atari

    images = is_atari(env)
    base = PolicyExperiment(agent=(POLICY_PRESETS if images else POLICY_VECTOR_PRESETS)[preset])
    run = base.run if images else replace(base.run, evaluate_steps=20_000, checkpoint_steps=20_000)
    return replace(base, run=run, env=replace(base.env, env=env, steps=1_000_000 if images else 200_000))


def build_policy(experiment: PolicyExperiment, workshop: Any) -> Any:
    """Build the Learner: environments, agent and their interaction.

    Raises:
        RlabError: the environment is unknown, or the agent cannot play it.
    """
    from agents.interaction import Interaction
    from agents.policy_gradient import PolicyGradient
    from envs import make_vec
    from rlab.run.life import Workshop
    from rlab.seeding import derive

    run, env, config = experiment.run, experiment.env, experiment.agent
    seed = derive(run.seed, "environment")
    envs = make_vec(env.env, config.num_envs, seed, protocol=env.protocol, training=True)

    def rehearse(journal: Any) -> Interaction:
        long = replace(env, steps=max(env.steps, 10**9))
        return build_policy(replace(experiment, env=long), Workshop(workshop.device, journal))

    try:
        spaces = envs.single_observation_space, envs.single_action_space
        longest = env.reset_steps if envs.protocol is None else min(env.reset_steps, 27_000)  # 30 minutes of Atari
        agent = PolicyGradient(config, *spaces, env.steps, longest, run.seed, workshop.device)
    except BaseException:
        envs.close()
        raise
    whole = config.rollout_unit == "episodes"
    return Interaction(
        agent,
        envs,
        env.env,
        total_steps=env.steps,
        reset_steps=env.reset_steps,
        ticks=16 if whole else min(config.rollout, 16),
        evaluate_episodes=env.evaluate_episodes,
        final_episodes=env.final_episodes,
        seed=run.seed,
        journal=workshop.journal,
        rehearse=rehearse,
    )


for _name, _summary in POLICY_SUMMARIES.items():
    RECIPES.register(_name)(
        Recipe(
            summary=_summary,
            default=lambda env, preset=_name: default_policy_experiment(preset, env),  # type: ignore[misc]
            build=build_policy,
        )
    )


# Algorithms of stable-baselines3.

SB3_SUMMARIES = {
    "ppo": "proximal policy optimisation (Schulman et al. 2017), of stable-baselines3",
    "sb3-a2c": "advantage actor-critic of stable-baselines3, beside our own a2c",
    "sb3-dqn": "deep Q-network of stable-baselines3, beside our own dqn",
    "sac": "soft actor-critic (Haarnoja et al. 2018), of stable-baselines3; Box actions",
    "td3": "twin delayed DDPG (Fujimoto et al. 2018), of stable-baselines3; Box actions",
    "ddpg": "deep deterministic policy gradient (Lillicrap et al. 2016), of stable-baselines3; Box actions",
}

SB3_RESUME = (
    "all that decides the run comes back (weights, optimisers, buffers, random numbers, environments); not kept: "
    "stable-baselines3's own clock, episode statistics and log, callbacks, and its .zip, which is not written"
)


def default_sb3_experiment(recipe: str, env: str) -> Any:
    """The settings that an algorithm starts from on an environment."""
    presets, make = SB3_PRESETS[recipe], EXPERIMENTS[recipe]
    if not env:
        return make(agent=presets["images"])
    from envs import is_atari

    if is_atari(env):
        return make(agent=presets["images"], env=EnvConfig(env=env))
    run = RunConfig(evaluate_steps=10_000, checkpoint_steps=10_000)
    steps = EnvConfig(env=env, steps=VECTOR_STEPS[recipe])
    return make(agent=presets.get(env, presets["vectors"]), env=steps, run=run)


def build_sb3(recipe: str, experiment: Any, workshop: Any) -> Any:
    """Build the Learner: environments and the algorithm in them.

    Raises:
        RlabError: the environment is unknown, or the algorithm cannot play it.
    """
    from agents.sb3 import Sb3Learner
    from envs import make_vec
    from rlab.run.life import Workshop
    from rlab.seeding import derive

    run, env, config = experiment.run, experiment.env, experiment.agent
    seed = derive(run.seed, "environment")
    envs = make_vec(env.env, config.num_envs, seed, protocol=env.protocol, training=True)

    def rehearse(journal: Any) -> Any:
        soon = {"learning_starts": 4 * config.num_envs} if hasattr(config, "learning_starts") else {}
        long = replace(env, steps=max(env.steps, 10**9))
        quick = replace(experiment, agent=replace(config, **soon), env=long)
        return build_sb3(recipe, quick, Workshop(workshop.device, journal))

    try:
        return Sb3Learner(
            recipe,
            config,
            envs,
            env.env,
            device=workshop.device,
            total_steps=env.steps,
            reset_steps=env.reset_steps,
            evaluate_episodes=env.evaluate_episodes,
            final_episodes=env.final_episodes,
            seed=run.seed,
            journal=workshop.journal,
            rehearse=rehearse,
        )
    except BaseException:
        envs.close()
        raise


for _name, _summary in SB3_SUMMARIES.items():
    RECIPES.register(_name)(
        Recipe(
            summary=_summary,
            default=partial(default_sb3_experiment, _name),
            build=partial(build_sb3, _name),
            resume=SB3_RESUME,
        )
    )
