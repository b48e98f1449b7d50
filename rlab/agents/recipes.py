"""The agents as recipes: what ``rlab train NAME`` starts. Imports no torch until one is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from rlab.agents.config import EnvConfig
from rlab.agents.policy.config import POLICY_PRESETS, POLICY_VECTOR_PRESETS, PolicyExperiment
from rlab.agents.sb3.config import EXPERIMENTS, SB3_PRESETS, VECTOR_STEPS
from rlab.agents.tabular.config import TABULAR_SUMMARIES, default_tabular
from rlab.agents.value.config import (
    GO_PRESETS,
    PACES,
    PRESETS,
    SMALL_PRESETS,
    VECTOR_PRESETS,
    PQNExperiment,
    QExperiment,
)
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig


def default_experiment(preset: str, env: str) -> QExperiment | PQNExperiment:
    """The settings that a preset starts from on an environment: sets for images, small ones and vectors."""
    experiment = PQNExperiment if preset == "pqn" else QExperiment
    if not env:
        return experiment(agent=PRESETS[preset])
    from rlab.envs import is_atari, is_minatar
    from rlab.envs.go.ids import go_size

    if go_size(env):
        kind, presets = "go", GO_PRESETS
    elif is_minatar(env):
        kind, presets = "boards", SMALL_PRESETS
    elif is_atari(env):
        kind, presets = "images", PRESETS
    else:
        kind, presets = "vectors", VECTOR_PRESETS
    pace = PACES.get(f"{preset} on {kind}", PACES[kind])
    run = RunConfig(evaluate_steps=pace.evaluate, checkpoint_steps=pace.evaluate, log_steps=pace.log)
    return experiment(run, EnvConfig(env=env, steps=pace.steps, reset_steps=pace.reset), presets[preset])


def make_q(experiment: Any, envs: Any, has_masks: bool, context: Any) -> Any:
    """A DQN for environments."""
    from rlab.agents.value.dqn import DQN

    return DQN(
        experiment.agent,
        envs.single_observation_space,
        envs.num_actions,
        envs.frame_stack,
        has_masks,
        experiment.env.steps,
        experiment.run.seed,
        context.device,
        context.journal,
    )


def make_pqn(experiment: Any, envs: Any, has_masks: bool, context: Any) -> Any:
    """A PQN for environments."""
    from rlab.agents.value.pqn import PQN

    space, actions = envs.single_observation_space, envs.num_actions
    return PQN(experiment.agent, space, actions, experiment.env.steps, experiment.run.seed, context.device)


def ticks_of(settings: Any) -> int:
    """Steps of all environments that make one unit of work: to the next update, if that is not too far."""
    if hasattr(settings, "train_every"):
        return max(1, settings.train_every // settings.num_envs)
    if hasattr(settings, "rollout_unit"):
        return 16 if settings.rollout_unit == "episodes" else min(settings.rollout, 16)
    return 1


def env_threads(settings: Any, device: str) -> int:
    """Threads that environments step in: half as many as torch has if learning takes the others; 0: one per core."""
    import torch

    beside = getattr(settings, "overlap", False) and device == "cpu"
    return max(1, torch.get_num_threads() // 2) if beside else 0


def warm_start(experiment: Any) -> Any:
    """Take the encoder of another run, if one is named; see `rlab.tasks.transfer`."""
    from rlab.tasks.transfer import warm_start_encoder

    return warm_start_encoder("agent", experiment)


PROTOCOLS = {
    "classic": "classic (no sticky actions, up to 30 no-ops, a lost life ends a training episode)",
    "v5": "v5 (sticky actions 0.25, no life-loss signal)",
}
"""An Atari protocol in words."""

REPLAY_HINT = "take a smaller --memory-size (the replay's capacity)"


def describe_env(experiment: Any) -> dict[str, str]:
    """What `rlab train` tells of a run in an environment before it starts."""
    env, agent = experiment.env, getattr(experiment, "agent", None)
    budget = f"{env.games:,} games" if hasattr(env, "games") else f"{env.steps:,} steps"
    lines = {"env": f"{env.env}, {budget}"}
    if isinstance(env, EnvConfig):
        from rlab.envs import is_atari

        rules = [f"{name} {value}" for name, value in env.rules().items() if name != "protocol" and value is not None]
        lines |= {"protocol": PROTOCOLS[env.protocol]} if is_atari(env.env) else {}
        lines |= {"rules": ", ".join(rules)} if rules else {}
        if env.steps <= (starts := getattr(agent, "learning_starts", -1)):
            lines["note"] = f"--learning-starts is {starts:,}, so nothing will be learned in {env.steps:,} steps"
    return lines


def build(make_agent: Callable[..., Any], experiment: Any, context: Any) -> Any:
    """Build the Learner: environments, agent and their interaction.

    Args:
        make_agent: (experiment, environments, whether they give action masks, context) -> Agent.
        experiment: settings with the parts `run`, `env` and `agent`.
        context: device and journal.

    Raises:
        RlabError: the environment is unknown, or the agent cannot play it.
    """
    from rlab.agents.interaction import Interaction
    from rlab.envs import make_vec
    from rlab.run.lifecycle import BuildContext
    from rlab.seeding import derive

    run, env, settings = experiment.run, experiment.env, experiment.agent
    seed = derive(run.seed, "environment")
    threads = env_threads(settings, context.device)
    envs = make_vec(env.env, settings.num_envs, seed, **env.rules(), training=True, threads=threads)

    def profile_copy(journal: Any) -> Interaction:
        quick: dict[str, Any] = {"compile": "off"} if hasattr(settings, "compile") else {}
        if hasattr(settings, "learning_starts"):
            quick["learning_starts"] = settings.num_envs * (settings.n_step + 4)
        long = replace(env, steps=max(env.steps, 10**9))
        changed = replace(experiment, agent=replace(settings, **quick), env=long)
        return build(make_agent, changed, BuildContext(context.device, journal))

    try:
        _, info = envs.reset()
        agent = make_agent(experiment, envs, "action_mask" in info, context)
        if context.start is not None and hasattr(agent, "encoders"):
            from rlab.tasks.transfer import start_from

            start_from(agent.encoders, context.start)
    except BaseException:
        envs.close()
        raise
    return Interaction(
        agent,
        envs,
        env.env,
        rules=env.rules(),
        total_steps=env.steps,
        reset_steps=env.reset_steps,
        ticks=ticks_of(settings),
        evaluate_episodes=env.evaluate_episodes,
        final_episodes=env.final_episodes,
        seed=run.seed,
        journal=context.journal,
        profile_copy=profile_copy,
    )


IN_ENV: dict[str, Any] = {"budget_step": 1_000, "describe": describe_env}

for _name, (_summary, _make) in {
    "dqn": ("deep Q-network in large batches over many environments (Mnih et al. 2015)", make_q),
    "nature": ("the same DQN with one environment, batch 32 every 4 steps, as it was published", make_q),
    "double-dqn": ("DQN whose online network chooses the bootstrap action (van Hasselt et al. 2016)", make_q),
    "dueling-dqn": ("DQN with streams for state value and advantages (Wang et al. 2016)", make_q),
    "prioritized-dqn": ("DQN that replays large errors more often (Schaul et al. 2016)", make_q),
    "c51": ("DQN of the return's distribution over 51 values (Bellemare et al. 2017)", make_q),
    "qr-dqn": ("DQN of the return's quantiles (Dabney et al. 2018)", make_q),
    "iqn": ("DQN of the return's quantiles at drawn fractions (Dabney et al. 2018)", make_q),
    "noisy-dqn": ("DQN that explores by noise in its weights (Fortunato et al. 2018)", make_q),
    "drqn": ("DQN that remembers: an LSTM on the encoder, learned from sequences (Hausknecht & Stone 2015)", make_q),
    "rainbow": ("double, dueling, prioritised, noisy, 3-step c51 (Hessel et al. 2018)", make_q),
    "btr": ("Beyond the Rainbow: a large residual network, IQN and Munchausen (Clark et al. 2024)", make_q),
    "pqn": (
        "Q(lambda) over many environments, without replay (Gallici et al. 2024)",
        make_pqn,
    ),
}.items():
    RECIPES.register(_name)(
        Recipe(
            _summary,
            partial(default_experiment, _name),
            partial(build, _make),
            warm_start=warm_start,
            **IN_ENV,
            memory_hint=REPLAY_HINT,
        )
    )


def build_tabular(experiment: Any, context: Any) -> Any:
    """Build the Learner of a tabular agent; see `rlab.agents.tabular.learner`."""
    from rlab.agents.tabular.learner import build_tabular

    return build_tabular(experiment, context)


for _name, _summary in TABULAR_SUMMARIES.items():
    RECIPES.register(_name)(Recipe(_summary, partial(default_tabular, _name), build_tabular, **IN_ENV))


# Policy gradients of our own.

POLICY_SUMMARIES = {
    "reinforce": "Monte-Carlo policy gradient (Williams 1992)",
    "reinforce-baseline": "the same less a learned state value",
    "actor-critic": "one-step actor-critic: the TD error in place of the return",
    "a2c": "advantage actor-critic over many environments (Mnih et al. 2016) with GAE (Schulman et al. 2016)",
}


def default_policy_experiment(preset: str, env: str) -> PolicyExperiment:
    """The settings that a preset starts from on an environment: for images, or vectors and their kind of actions."""
    if not env:
        return PolicyExperiment(agent=POLICY_PRESETS[preset])
    from rlab.envs import is_atari, is_minatar
    from rlab.envs.make import is_continuous

    images = is_atari(env) or is_minatar(env)
    base = PolicyExperiment(agent=(POLICY_PRESETS if images else POLICY_VECTOR_PRESETS)[preset])
    if preset == "a2c" and is_continuous(env):
        base = replace(base, agent=replace(base.agent, normalise_advantages=True))
    run = base.run if images else replace(base.run, evaluate_steps=20_000, checkpoint_steps=20_000)
    return replace(base, run=run, env=replace(base.env, env=env, steps=1_000_000 if images else 200_000))


def make_policy(experiment: Any, envs: Any, has_masks: bool, context: Any) -> Any:
    """A policy gradient for environments."""
    from rlab.agents.policy.policy_gradient import PolicyGradient

    run, env = experiment.run, experiment.env
    spaces = envs.single_observation_space, envs.single_action_space
    longest = env.reset_steps if envs.protocol is None else min(env.reset_steps, 27_000)  # 30 minutes of Atari
    return PolicyGradient(experiment.agent, *spaces, env.steps, longest, run.seed, context.device)


for _name, _summary in POLICY_SUMMARIES.items():
    RECIPES.register(_name)(
        Recipe(
            _summary,
            partial(default_policy_experiment, _name),
            partial(build, make_policy),
            warm_start=warm_start,
            **IN_ENV,
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
    from rlab.envs import is_atari, is_minatar

    if is_atari(env) or is_minatar(env):
        return make(agent=presets["images"], env=EnvConfig(env=env))
    run = RunConfig(evaluate_steps=10_000, checkpoint_steps=10_000)
    steps = EnvConfig(env=env, steps=VECTOR_STEPS[recipe])
    return make(agent=presets.get(env, presets["vectors"]), env=steps, run=run)


def build_sb3(recipe: str, experiment: Any, context: Any) -> Any:
    """Build the Learner: environments and the algorithm in them.

    Raises:
        RlabError: the environment is unknown, or the algorithm cannot play it.
    """
    from rlab.agents.sb3.learner import Sb3Learner
    from rlab.envs import make_vec
    from rlab.run.lifecycle import BuildContext
    from rlab.seeding import derive

    run, env, config = experiment.run, experiment.env, experiment.agent
    seed = derive(run.seed, "environment")
    envs = make_vec(env.env, config.num_envs, seed, **env.rules(), training=True)

    def profile_copy(journal: Any) -> Any:
        soon = {"learning_starts": 4 * config.num_envs} if hasattr(config, "learning_starts") else {}
        long = replace(env, steps=max(env.steps, 10**9))
        quick = replace(experiment, agent=replace(config, **soon), env=long)
        return build_sb3(recipe, quick, BuildContext(context.device, journal))

    try:
        learner = Sb3Learner(
            recipe,
            config,
            envs,
            env.env,
            device=context.device,
            rules=env.rules(),
            total_steps=env.steps,
            reset_steps=env.reset_steps,
            evaluate_episodes=env.evaluate_episodes,
            final_episodes=env.final_episodes,
            seed=run.seed,
            journal=context.journal,
            profile_copy=profile_copy,
        )
        if context.start is not None:
            from rlab.tasks.transfer import start_from

            start_from(learner.sb3.encoders, context.start)
        return learner
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
            warm_start=warm_start,
            memory_hint=REPLAY_HINT,
            **IN_ENV,
        )
    )


# Go.


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is imported only when it is called."""

    def call(*given: Any) -> Any:
        return getattr(import_module(f"rlab.agents.go.{module}"), name)(*given)

    return call


def describe_games(experiment: Any) -> dict[str, str]:
    """What `rlab train` tells of a run on game records before it starts."""
    part = experiment.data
    held_out = f"{100 * part.validation:g} % held out" if part.validation else "nothing held out"
    return {"data": f"{part.data}, {experiment.fit.epochs} epochs, {held_out}"}


RECIPES.register("alphazero")(
    Recipe(
        "self-play with tree search on a board of Go (Silver et al. 2018)",
        _later("config", "default_alphazero"),
        _later("alphazero", "build_alphazero"),
        **IN_ENV,
    )
)
RECIPES.register("go-policy")(
    Recipe(
        "a policy of Go from game records: AlphaGo's first part (Silver et al. 2016)",
        _later("alphago.config", "default_records"),
        _later("alphago.supervised_policy", "build_records"),
        subject=("data",),
        unit="examples",
        budget="fit.epochs",
        describe=describe_games,
    )
)
RECIPES.register("go-reinforce")(
    Recipe(
        "a policy of Go improved by games against its past selves: AlphaGo's second part",
        _later("alphago.config", "default_reinforce"),
        _later("alphago.reinforce", "build_reinforce"),
        warm_start=_later("alphago.warm_start", "warm_start_networks"),
        **IN_ENV,
    )
)
RECIPES.register("go-value")(
    Recipe(
        "a value of Go from the outcomes of games of policies: AlphaGo's third part",
        _later("alphago.config", "default_values"),
        _later("alphago.value_network", "build_values"),
        warm_start=_later("alphago.warm_start", "warm_start_networks"),
        **IN_ENV,
    )
)
RECIPES.register("go-rollout")(
    Recipe(
        "a fast policy of Go of local patterns, for rollouts: AlphaGo's fourth part (Silver et al. 2016)",
        _later("alphago.config", "default_rollout"),
        _later("alphago.rollout_policy", "build_rollout"),
        subject=("data",),
        unit="examples",
        budget="fit.epochs",
        describe=describe_games,
    )
)
RECIPES.register("go-search")(
    Recipe(
        "a search made of other runs, and its match: AlphaGo's fifth part (Silver et al. 2016)",
        _later("alphago.config", "default_apv"),
        _later("alphago.apv_mcts", "build_apv"),
        unit="games",
        budget="env.games",
        describe=describe_env,
        warm_start=_later("alphago.apv_mcts", "warm_start_parts"),
    )
)
