"""The agents as recipes: what ``rlab train NAME`` starts. Imports no torch until one is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from agents.config import PRESETS, VECTOR_PRESETS, EnvConfig, PQNExperiment, QExperiment
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig


def default_experiment(preset: str, env: str) -> QExperiment | PQNExperiment:
    """The settings that a preset starts from on an environment: one set for images, one for vectors."""
    experiment = PQNExperiment if preset == "pqn" else QExperiment
    if not env:
        return experiment(agent=PRESETS[preset])
    from envs import is_atari

    images = is_atari(env)
    run = RunConfig() if images else RunConfig(evaluate_steps=20_000, checkpoint_steps=20_000)
    where = EnvConfig(env=env, steps=1_000_000 if images else 80_000)
    return experiment(run, where, (PRESETS if images else VECTOR_PRESETS)[preset])


def make_q(experiment: Any, envs: Any, has_masks: bool, workshop: Any) -> Any:
    """A DQN for environments."""
    from agents.dqn import DQN

    return DQN(
        experiment.agent,
        envs.single_observation_space,
        int(envs.single_action_space.n),
        envs.frame_stack,
        has_masks,
        experiment.env.steps,
        experiment.run.seed,
        workshop.device,
        workshop.journal,
    )


def make_pqn(experiment: Any, envs: Any, has_masks: bool, workshop: Any) -> Any:
    """A PQN for environments."""
    from agents.pqn import PQN

    space, actions = envs.single_observation_space, int(envs.single_action_space.n)
    return PQN(experiment.agent, space, actions, experiment.env.steps, experiment.run.seed, workshop.device)


def build(make_agent: Callable[..., Any], experiment: Any, workshop: Any) -> Any:
    """Build the Learner: environments, agent and their interaction.

    Args:
        make_agent: (experiment, environments, whether they give action masks, workshop) -> Agent.
        experiment: settings with the parts `run`, `env` and `agent`.
        workshop: device and journal.

    Raises:
        RlabError: the environment is unknown, or the agent cannot play it.
    """
    from agents.interaction import Interaction
    from envs import make_vec
    from rlab.run.life import Workshop
    from rlab.seeding import derive

    run, env, settings = experiment.run, experiment.env, experiment.agent
    seed = derive(run.seed, "environment")
    envs = make_vec(env.env, settings.num_envs, seed, protocol=env.protocol, training=True)

    def rehearse(journal: Any) -> Interaction:
        quick: dict[str, Any] = {"compile": "off"}
        if hasattr(settings, "learning_starts"):
            quick["learning_starts"] = settings.num_envs * (settings.n_step + 4)
        long = replace(env, steps=max(env.steps, 10**9))
        twin = replace(experiment, agent=replace(settings, **quick), env=long)
        return build(make_agent, twin, Workshop(workshop.device, journal))

    try:
        _, info = envs.reset()
        agent = make_agent(experiment, envs, "action_mask" in info, workshop)
    except BaseException:
        envs.close()
        raise
    return Interaction(
        agent,
        envs,
        env.env,
        total_steps=env.steps,
        reset_steps=env.reset_steps,
        ticks=max(1, getattr(settings, "train_every", 1) // settings.num_envs),
        evaluate_episodes=env.evaluate_episodes,
        final_episodes=env.final_episodes,
        seed=run.seed,
        journal=workshop.journal,
        rehearse=rehearse,
    )


for _name, (_summary, _make) in {
    "dqn": ("deep Q-network in bf16 batches over many environments (Mnih et al. 2015)", make_q),
    "nature": ("the same DQN with one environment, batch 32 every 4 steps, as it was published", make_q),
    "double-dqn": ("DQN whose online network chooses the bootstrap action (van Hasselt et al. 2016)", make_q),
    "dueling-dqn": ("DQN with streams for state value and advantages (Wang et al. 2016)", make_q),
    "prioritized-dqn": ("DQN that replays large errors more often (Schaul et al. 2016)", make_q),
    "c51": ("DQN of the return's distribution over 51 values (Bellemare et al. 2017)", make_q),
    "qr-dqn": ("DQN of the return's quantiles (Dabney et al. 2018)", make_q),
    "iqn": ("DQN of the return's quantiles at drawn fractions (Dabney et al. 2018)", make_q),
    "noisy-dqn": ("DQN that explores by noise in its weights (Fortunato et al. 2018)", make_q),
    "rainbow": ("double, dueling, prioritised, noisy, 3-step c51 (Hessel et al. 2018)", make_q),
    "btr": ("Beyond the Rainbow: a large residual network, IQN and Munchausen (Clark et al. 2024)", make_q),
    "pqn": (
        "Q(lambda) over many environments, no replay: the quickest to a good score (Gallici et al. 2024)",
        make_pqn,
    ),
}.items():
    RECIPES.register(_name)(Recipe(_summary, partial(default_experiment, _name), partial(build, _make)))
