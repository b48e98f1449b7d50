"""Labels of an expert against rewards alone, on one control task."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlab.studies.plots import column, columns, dots
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

ENV = "CartPole-v1"


@dataclass(frozen=True)
class Settings:
    """CartPole; the expert is a rule that balances the pole for whole games of 500 steps."""

    steps: int = 24_000
    """Environment steps of DQN, which sees rewards and no labels."""
    updates: int = 300
    """Gradient steps of the clones, each on all labels."""
    episodes: int = 20
    """Games that everybody is scored by."""


def expert(obs: NDArray[Any]) -> NDArray[np.int64]:
    """obs[N, 4] -> int64[N]: push to where the pole falls, with a little of the cart's place and speed."""
    return (obs @ np.array([0.05, 0.1, 1.0, 0.3]) > 0).astype(np.int64)


class Clone:
    """Plays by a network's logits, and notes what it sees."""

    def __init__(self, network: Any):
        self.network = network
        self.visited: list[NDArray[Any]] = []

    def choose(self, obs: NDArray[Any]) -> NDArray[np.int64]:
        """obs[N, 4] -> int64[N]."""
        import torch

        with torch.no_grad():
            chosen: NDArray[np.int64] = self.network(torch.from_numpy(obs)).argmax(dim=1).numpy()
        return chosen

    def act(self, obs: NDArray[Any], first: NDArray[np.bool_], mask: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """obs[N, 4] -> int64[N]."""
        self.visited.append(obs)
        return self.choose(obs)


def examples(count: int, seed: int) -> NDArray[np.float32]:
    """The first `count` states of the expert's games, one game after the other: float32[count, 4]."""
    from rlab.envs import make_vec

    with closing(make_vec(ENV, 1, seed)) as envs:
        obs, states = envs.reset(seed=seed)[0], []
        for _ in range(count):
            states.append(obs[0])
            obs = envs.step(expert(obs))[0]
    return np.array(states, np.float32)


def train_clone(states: NDArray[np.float32], updates: int, seed: int) -> Clone:
    """Fit a network to the expert's actions by cross-entropy (Pomerleau 1991)."""
    import torch
    from torch import nn

    from rlab.nn import make_encoder
    from rlab.seeding import derive

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "network"))
        encoder: Any = make_encoder("mlp", (4,))
        network = nn.Sequential(encoder, nn.Linear(encoder.out_dim, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    x, labels = torch.from_numpy(states), torch.from_numpy(expert(states))
    for _ in range(updates):
        loss = nn.functional.cross_entropy(network(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Clone(network)


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """The mean return; of a clone also how often it agrees with the expert, on the expert's states and its own."""
    from rlab.seeding import derive

    if "labels" not in variant:
        from rlab.studies.rl import learner, run, score

        with learner(variant["recipe"], ENV, seed, steps=settings.steps) as built:
            return {"return": run(built, 1, lambda it: score(it, settings.episodes, seed))[0]}
    from rlab.agents.evaluation import play
    from rlab.envs import make_vec
    from rlab.run.contract import Stop

    clone = train_clone(examples(variant["labels"], derive(seed, "labels")), settings.updates, seed)
    with closing(make_vec(ENV, settings.episodes, seed, training=False)) as envs:
        returns, _ = play(clone, envs, settings.episodes, derive(seed, "games"), Stop())
    others, own = examples(500, derive(seed, "others")), np.concatenate(clone.visited)
    agrees = [float((clone.choose(states) == expert(states)).mean()) for states in (others, own)]
    return {"return": float(returns.mean()), "on_experts_states": agrees[0], "on_own_states": agrees[1]}


def draw(figure: Any, results: Results) -> None:
    """Returns, and how often the clones agree with the expert."""
    above, below = figure.subplots(2, 1)
    dots(above, columns(results, "return"), "return of a game")
    clones = {name: seeds for name, seeds in results.items() if "on_own_states" in seeds[0]}
    for key, label in (("on_experts_states", "on the expert's states"), ("on_own_states", "on its own states")):
        means = [np.mean(column(seeds, key)) for seeds in clones.values()]
        below.plot(range(len(means)), means, "o-", ms=4, label=label)
    below.set_xticks(range(len(clones)), list(clones), fontsize=8)
    below.set_ylabel("agrees with the expert", fontsize=9)
    below.legend(fontsize=8)


STUDIES.register("behaviour-cloning")(
    Study(
        claim="Supervised learning needs a right action for every state and goes wrong where its few labels do not "
        "reach; reinforcement learning comes to long games from rewards alone.",
        source="item 012; Pomerleau 1991; Ross et al. 2011, section 2",
        settings=Settings(),
        smoke={"steps": 600, "updates": 5, "episodes": 1},
        variants={
            "10 labels": {"labels": 10},
            "30 labels": {"labels": 30},
            "100 labels": {"labels": 100},
            "1000 labels": {"labels": 1_000},
            "dqn": {"recipe": "dqn"},
        },
        measure=measure,
        contrasts=(
            Contrast(
                "even with 1000 labels a clone errs more in its own games",
                {"1000 labels/on_experts_states": 1, "1000 labels/on_own_states": -1},
            ),
            Contrast("1000 labels give longer games than 10", {"1000 labels/return": 1, "10 labels/return": -1}),
            Contrast("DQN without labels beats 100 labels", {"dqn/return": 1, "100 labels/return": -1}),
        ),
        draw=draw,
        seeds=6,
        small={"steps": 4_000, "updates": 150, "episodes": 8},
        small_seeds=4,
        claim_ja="教師あり学習は、どの状態にも正解の行動を必要とし、少ないラベルが及ばないところで間違える。"
        "強化学習は、報酬だけから、長く続くゲームができるようになる。",
    )
)
