"""The agents as recipes: what ``rlab train NAME`` starts. Imports no torch until one is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields, make_dataclass, replace
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rlab.agents.config import AgentSettings, EnvConfig
from rlab.agents.imitation.config import default_distillation, default_gail
from rlab.agents.policy.config import POLICY_PRESETS, POLICY_VECTOR_PRESETS, PolicyExperiment
from rlab.agents.sb3.config import EXPERIMENTS, SB3_PRESETS, VECTOR_STEPS
from rlab.agents.tabular.config import TABULAR_SUMMARIES, default_tabular
from rlab.agents.value.config import (
    GO_PRESETS,
    PACES,
    PRESETS,
    SMALL_PRESETS,
    VECTOR_PRESETS,
    AveragedDQNConfig,
    PQNExperiment,
    QConfig,
    QExperiment,
)
from rlab.agents.world_model.config import default_world_model
from rlab.machine import cores
from rlab.registry import RECIPES, Recipe
from rlab.run.config import RunConfig, to_plain

if TYPE_CHECKING:
    from rlab.agents.interaction import Agent
    from rlab.agents.types import AgentContext
    from rlab.envs.vector import VecEnv


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


@cache
def experiment_of(settings: type[Any]) -> type[QExperiment]:
    """`QExperiment` with settings of a subclass of `QConfig`."""
    part = ("agent", settings, field(default_factory=settings))
    return make_dataclass(f"{settings.__name__}Experiment", [part], bases=(QExperiment,), frozen=True)


def default_variant(settings: Callable[..., QConfig], env: str, preset: str = "dqn", **changes: Any) -> QExperiment:
    """The settings that a variant of DQN starts from on an environment.

    Args:
        settings: a frozen dataclass, `QConfig` or a subclass of it with fields of its own.
        env: name of an environment, or "".
        preset: whose settings it shares.
        changes: what is different in it, by field.
    """
    base = default_experiment(preset, env)
    shared = {f.name: getattr(base.agent, f.name) for f in fields(base.agent)}
    return experiment_of(settings)(base.run, base.env, settings(**shared | changes))


def warm_start(experiment: Any) -> Any:
    """Take the encoder, and what remembers, of other runs, if they are named; see `rlab.tasks.transfer`."""
    from rlab.agents.memory import warm_start_memory
    from rlab.tasks.transfer import warm_start_encoder

    return warm_start_memory(*warm_start_encoder("agent", experiment))


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
    by_clock = f"{experiment.run.minutes:g} minutes, about " if experiment.run.minutes else ""
    lines = {"env": f"{env.env}, {by_clock}{budget}"}
    if isinstance(env, EnvConfig):
        from rlab.envs import is_atari
        from rlab.envs.make import is_foreign

        rules = env.rules()
        protocol = rules.pop("protocol", "classic")
        lines |= {"protocol": PROTOCOLS[protocol]} if is_atari(env.env) else {}
        lines |= {"rules": ", ".join(f"{name} {to_plain(value)}" for name, value in rules.items())} if rules else {}
        if isinstance(agent, AgentSettings):
            lines |= _copies(experiment) if is_foreign(env.env) else {}
            if why := agent.nothing_learned(env.steps):
                lines["note"] = f"{why}, so nothing will be learned in {by_clock}{budget}"
    elif getattr(env, "env_args", None):
        lines["rules"] = f"env_args {env.env_args}"
    return lines


def _copies(experiment: Any) -> dict[str, str]:
    """How many copies of a user's environment are open at a time."""
    learn = experiment.agent.num_envs
    if not evaluates(experiment):
        return {"copies": f"{learn} at a time"}
    more = min(learn, experiment.env.evaluate_episodes)
    return {"copies": f"{learn}, and {more} more while evaluating (none with --evaluate-steps 0)"}


def evaluates(experiment: Any) -> bool:
    """Whether there are evaluations before the end of a run."""
    return 0 < experiment.run.evaluate_steps < experiment.env.steps


def build(
    make_agent: Callable[[Any, AgentContext], Agent], experiment: Any, context: Any, lent: VecEnv | None = None
) -> Any:
    """Build the Learner: environments, agent and their interaction.

    Args:
        make_agent: an agent's class, or anything else that makes one of (settings, context).
        experiment: settings with the parts `run`, `env` and `agent`; the last is an `AgentSettings`.
        context: device, journal and what the run takes from others.
        lent: environments of another learner, to be measured in; see `EnvStream`.

    Raises:
        RlabError: the environment is unknown, or the agent cannot play it.
    """
    from rlab.agents.interaction import EnvStream, Interaction
    from rlab.agents.types import AgentContext
    from rlab.envs import make_vec
    from rlab.seeding import derive

    run, env, settings = experiment.run, experiment.env, experiment.agent
    seed = derive(run.seed, "environment")
    shares = settings.learns_in_background and context.device == "cpu"
    number = cores() if run.threads in ("auto", 0) else run.threads
    threads = max(1, number // 2) if shares else 0  # 0: one per core
    make = partial(make_vec, env.env, settings.num_envs, seed, **env.rules(), training=True, threads=threads)
    envs = lent
    if envs is None:
        envs = make()
        envs.interrupted = lambda: context.stop.requested
    try:
        agent = make_agent(
            settings,
            AgentContext(
                observation_space=envs.single_observation_space,
                action_space=envs.single_action_space,
                frame_stack=envs.frame_stack,
                has_masks=envs.masks,
                longest_episode=env.reset_steps if envs.protocol is None else min(env.reset_steps, ATARI_LONGEST),
                total_steps=context.budget.horizon(env.steps),
                seed=run.seed,
                device=context.device,
                journal=context.journal,
                budget=context.budget,
                stop=context.stop,
            ),
        )
        if context.start is not None:
            from rlab.agents.memory import start_memory
            from rlab.tasks.transfer import start_from

            start_from(agent.encoders, context.start)
            start_memory(agent.encoders, context.start)
    except BaseException:
        if lent is None:
            envs.close()
        raise
    return Interaction(
        agent,
        EnvStream(envs, env.env, env.reset_steps, run.seed, context.journal, make, lent is not None),
        rules=env.rules(),
        total_steps=env.steps,
        ticks=settings.ticks,
        evaluate_episodes=env.evaluate_episodes,
        final_episodes=env.final_episodes,
        profile_copy=partial(profile_copy, partial(build, make_agent), experiment, context.device),
        evaluates=evaluates(experiment),
    )


def profile_copy(
    build: Callable[..., Any], experiment: Any, device: str, journal: Any, stop: Any, lent: VecEnv | None
) -> Any:
    """A throwaway copy of a Learner that learns at once, for measuring."""
    from rlab.run.lifecycle import BuildContext

    long = replace(experiment.env, steps=max(experiment.env.steps, 10**9))
    quick = replace(experiment, agent=experiment.agent.for_profile(), env=long)
    return build(quick, BuildContext(device, journal, stop=stop), lent)


ATARI_LONGEST = 27_000
"""Steps of an episode on Atari at most: 30 minutes."""


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function or class of a module of rlab.agents that is imported only when it is called."""

    def call(*given: Any) -> Any:
        return getattr(import_module(f"rlab.agents.{module}"), name)(*given)

    return call


DISCRETE, CONTINUOUS = ("CartPole-v1", "Breakout", "MinAtar/Breakout"), ("Pendulum-v1", "Crawler")
"""Environments to begin with, by their actions."""

IN_ENV: dict[str, Any] = {"budget_step": 1_000, "describe": describe_env}
IN_DISCRETE: dict[str, Any] = IN_ENV | {"family": "deep Q-networks", "plays": ("discrete",), "examples": DISCRETE}
IN_ANY: dict[str, Any] = IN_ENV | {"plays": ("discrete", "continuous"), "examples": (*DISCRETE[:2], *CONTINUOUS[:1])}
IN_CONTINUOUS: dict[str, Any] = IN_ENV | {"plays": ("continuous",), "examples": CONTINUOUS}
ON_GO: dict[str, Any] = IN_ENV | {"family": "Go", "plays": ("go",)}

DQN, PQN, POLICY_GRADIENT = (
    _later("value.dqn", "DQN"),
    _later("value.pqn", "PQN"),
    _later("policy.recurrent", "make_policy_gradient"),
)

for _name, (_summary, _agent) in {
    "dqn": ("deep Q-network in large batches over many environments (Mnih et al. 2015)", DQN),
    "nature": ("the same DQN with one environment, batch 32 every 4 steps, as it was published", DQN),
    "double-dqn": ("DQN whose online network chooses the bootstrap action (van Hasselt et al. 2016)", DQN),
    "dueling-dqn": ("DQN with streams for state value and advantages (Wang et al. 2016)", DQN),
    "prioritized-dqn": ("DQN that replays large errors more often (Schaul et al. 2016)", DQN),
    "c51": ("DQN of the return's distribution over 51 values (Bellemare et al. 2017)", DQN),
    "qr-dqn": ("DQN of the return's quantiles (Dabney et al. 2018)", DQN),
    "iqn": ("DQN of the return's quantiles at drawn fractions (Dabney et al. 2018)", DQN),
    "noisy-dqn": ("DQN that explores by noise in its weights (Fortunato et al. 2018)", DQN),
    "drqn": ("DQN that remembers: an LSTM on the encoder, learned from sequences (Hausknecht & Stone 2015)", DQN),
    "rainbow": ("double, dueling, prioritised, noisy, 3-step c51 (Hessel et al. 2018)", DQN),
    "btr": ("Beyond the Rainbow: a large residual network, IQN and Munchausen (Clark et al. 2024)", DQN),
    "pqn": (
        "Q(lambda) over many environments, without replay (Gallici et al. 2024)",
        PQN,
    ),
}.items():
    RECIPES.register(_name)(
        Recipe(
            _summary,
            partial(default_experiment, _name),
            partial(build, _agent),
            warm_start=warm_start,
            **IN_DISCRETE,
            memory_hint=REPLAY_HINT,
        )
    )


RECIPES.register("averaged-dqn")(
    Recipe(
        "DQN with the mean of its last target networks as target (Anschel et al. 2017)",
        partial(default_variant, AveragedDQNConfig),
        partial(build, _later("value.averaged_dqn", "AveragedDQN")),
        warm_start=warm_start,
        **IN_DISCRETE,
        memory_hint=REPLAY_HINT,
    )
)


def build_tabular(experiment: Any, context: Any) -> Any:
    """Build the Learner of a tabular agent; see `rlab.agents.tabular.learner`."""
    from rlab.agents.tabular.learner import build_tabular

    return build_tabular(experiment, context)


for _name, _summary in TABULAR_SUMMARIES.items():
    _first = () if "bandit" in _summary else ("Taxi-v4", "FrozenLake-v1", "rlab/GridWorld-v0")
    RECIPES.register(_name)(
        Recipe(
            _summary,
            partial(default_tabular, _name),
            build_tabular,
            **IN_ENV,
            family="tables and planning",
            plays=("table",),
            examples=_first,
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


for _name, _summary in POLICY_SUMMARIES.items():
    RECIPES.register(_name)(
        Recipe(
            _summary,
            partial(default_policy_experiment, _name),
            partial(build, POLICY_GRADIENT),
            warm_start=warm_start,
            **IN_ANY | {"family": "policy gradients"},
        )
    )


# Policies from what other runs have played.


def describe_trajectories(experiment: Any) -> dict[str, str]:
    """What `rlab train` tells of a run on trajectories before it starts."""
    method = {"dt": "asks for a return", "bc": "clones", "filtered-bc": f"clones the best {experiment.model.keep:.0%}"}
    data = f"trajectories of {experiment.data.trajectories}, {experiment.fit.epochs} epochs"
    return {"env": experiment.env.env, "data": data, "method": method[experiment.model.method]}


RECIPES.register("decision-transformer")(
    Recipe(
        "a Transformer that plays for the return that one asks for, from another run's games (Chen et al. 2021)",
        _later("sequence.config", "default_sequence_policy"),
        _later("sequence.decision_transformer", "build_sequence_policy"),
        unit="examples",
        budget="fit.epochs",
        describe=describe_trajectories,
        family="policies from trajectories",
        plays=("discrete",),
        examples=("CartPole-v1", "MinAtar/Breakout"),
        warm_start=_later("sequence.decision_transformer", "note_trajectories"),
    )
)


# Policies from other agents.

IMITATION: dict[str, Any] = IN_DISCRETE | {"family": "imitation", "examples": ("CartPole-v1", "MinAtar/Breakout")}

RECIPES.register("policy-distillation")(
    Recipe(
        "a small network that learns a trained agent's policy (Rusu et al. 2016)",
        default_distillation,
        _later("imitation.distillation", "build_distillation"),
        warm_start=_later("imitation.distillation", "warm_start_teacher"),
        **IMITATION,
    )
)
RECIPES.register("gail")(
    Recipe(
        "a policy gradient paid by a discriminator for playing like another run's games (Ho & Ermon 2016)",
        default_gail,
        _later("imitation.gail", "build_gail"),
        warm_start=_later("imitation.gail", "warm_start_expert"),
        **IMITATION,
    )
)


RECIPES.register("world-model")(
    Recipe(
        "a policy that learns in the dreams of a recurrent model of its world (Ha & Schmidhuber 2018)",
        default_world_model,
        partial(build, _later("world_model.agent", "WorldModelAgent")),
        **IN_DISCRETE | {"family": "world models"},
        memory_hint="take a smaller --memory-size (the recorded steps)",
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

SB3_PLAYS = {"ppo": IN_ANY, "sb3-a2c": IN_ANY, "sb3-dqn": IN_DISCRETE}
"""Algorithm -> what it plays; the others have continuous actions."""

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


def build_sb3(recipe: str, experiment: Any, context: Any, lent: VecEnv | None = None) -> Any:
    """Build the Learner: environments and the algorithm in them.

    Raises:
        RlabError: the environment is unknown, or the algorithm cannot play it.
    """
    from rlab.agents.interaction import EnvStream
    from rlab.agents.sb3.learner import Sb3Learner, make_agent
    from rlab.envs import make_vec
    from rlab.seeding import derive

    run, env, config = experiment.run, experiment.env, experiment.agent
    seed = derive(run.seed, "environment")
    make = partial(make_vec, env.env, config.num_envs, seed, **env.rules(), training=True)
    envs = make() if lent is None else lent
    stream = EnvStream(envs, env.env, env.reset_steps, run.seed, context.journal, make, lent is not None)
    try:
        learner = Sb3Learner(
            make_agent(recipe, config, stream, context.device),
            stream,
            rules=env.rules(),
            total_steps=env.steps,
            ticks=1,
            evaluate_episodes=env.evaluate_episodes,
            final_episodes=env.final_episodes,
            profile_copy=partial(profile_copy, partial(build_sb3, recipe), experiment, context.device),
            evaluates=evaluates(experiment),
        )
        if context.start is not None:
            from rlab.tasks.transfer import start_from

            start_from(learner.sb3.encoders, context.start)
        return learner
    except BaseException:
        if lent is None:
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
            **IN_ENV | SB3_PLAYS.get(_name, IN_CONTINUOUS) | {"family": "algorithms of stable-baselines3"},
        )
    )


# Go.


def describe_games(experiment: Any) -> dict[str, str]:
    """What `rlab train` tells of a run on game records before it starts."""
    part = experiment.data
    held_out = f"{100 * part.validation:g} % held out" if part.validation else "nothing held out"
    return {"data": f"{part.data}, {experiment.fit.epochs} epochs, {held_out}"}


RECIPES.register("alphazero")(
    Recipe(
        "self-play with tree search on a board of Go (Silver et al. 2018)",
        _later("go.config", "default_alphazero"),
        _later("go.alphazero", "build_alphazero"),
        **ON_GO,
    )
)
RECIPES.register("go-policy")(
    Recipe(
        "a policy of Go from game records: AlphaGo's first part (Silver et al. 2016)",
        _later("go.alphago.config", "default_records"),
        _later("go.alphago.supervised_policy", "build_records"),
        subject=("data",),
        unit="examples",
        budget="fit.epochs",
        describe=describe_games,
        draws=False,
        family="Go",
        plays=("go",),
    )
)
RECIPES.register("go-reinforce")(
    Recipe(
        "a policy of Go improved by games against its past selves: AlphaGo's second part",
        _later("go.alphago.config", "default_reinforce"),
        _later("go.alphago.reinforce", "build_reinforce"),
        warm_start=_later("go.alphago.warm_start", "warm_start_networks"),
        **ON_GO,
    )
)
RECIPES.register("go-value")(
    Recipe(
        "a value of Go from the outcomes of games of policies: AlphaGo's third part",
        _later("go.alphago.config", "default_values"),
        _later("go.alphago.value_network", "build_values"),
        warm_start=_later("go.alphago.warm_start", "warm_start_networks"),
        **ON_GO,
    )
)
RECIPES.register("go-rollout")(
    Recipe(
        "a fast policy of Go of local patterns, for rollouts: AlphaGo's fourth part (Silver et al. 2016)",
        _later("go.alphago.config", "default_rollout"),
        _later("go.alphago.rollout_policy", "build_rollout"),
        subject=("data",),
        unit="examples",
        budget="fit.epochs",
        describe=describe_games,
        draws=False,
        family="Go",
        plays=("go",),
    )
)
RECIPES.register("go-search")(
    Recipe(
        "a search made of other runs, and its match: AlphaGo's fifth part (Silver et al. 2016)",
        _later("go.alphago.config", "default_apv"),
        _later("go.alphago.apv_mcts", "build_apv"),
        unit="games",
        budget="env.games",
        describe=describe_env,
        family="Go",
        plays=("go",),
        warm_start=_later("go.alphago.apv_mcts", "warm_start_parts"),
    )
)
