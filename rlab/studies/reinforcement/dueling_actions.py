"""Dueling streams where more and more actions do nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlab.studies.plots import column, curves
from rlab.studies.study import STUDIES, Contrast, Numbers, Results, Study

ACTIONS = (5, 10, 20)
POINTS = 20


@dataclass(frozen=True)
class Settings:
    """Policy evaluation in the three corridors of Wang et al. 2016, by the steps that the policy itself takes.

    The policy walks on, so that its steps are spread evenly over the cells; they are drawn so.
    """

    updates: int = 2_000
    """Gradient steps."""
    batch_size: int = 32
    """Steps of one update."""
    epsilon: float = 0.001
    """Probability of a random action of the policy, which is optimal else; the paper's."""
    gamma: float = 0.99
    """Discount per step."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    height: int = 10
    """Cells of the vertical corridors."""
    width: int = 50
    """Cells of the horizontal one."""


def measure(settings: Settings, variant: Any, seed: int) -> Numbers:
    """log10 of the mean squared error against the exact values, on the way and in the mean over it."""
    import torch
    from torch import nn

    from rlab.agents.value.returns import bootstrap
    from rlab.nn import QHead
    from rlab.nn.encoders.mlp import MLP
    from rlab.seeding import derive

    mdp, policy, exact = problem(settings, variant["actions"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "network"))
        # As in the paper: 50 and 50 units, or 50 and then 25 in each stream.
        head = QHead(50, mdp.actions, dueling=variant["dueling"], hidden=25 if variant["dueling"] else 50)
        network = nn.Sequential(MLP((mdp.states,), width=50, depth=1), head)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    rng = np.random.default_rng(derive(seed, "steps"))
    cells, policy_t = torch.eye(mdp.states), torch.from_numpy(policy).float()
    places = np.flatnonzero(mdp.reachable())
    way: list[float] = []
    for update in range(1, settings.updates + 1):
        s = rng.choice(places, size=settings.batch_size)
        a = (rng.random((len(s), 1)) > policy[s].cumsum(axis=1)[:, :-1]).sum(axis=1)
        after = torch.from_numpy(mdp.next_state[s, a, 0])
        reward = torch.from_numpy(mdp.reward[s, a, 0]).float()
        discount = settings.gamma * torch.from_numpy(~mdp.terminated[s, a, 0]).float()
        with torch.no_grad():
            value = (policy_t[after] * network(cells[after])).sum(dim=1)
        q = network(cells[torch.from_numpy(s)]).gather(1, torch.from_numpy(a)[:, None])[:, 0]
        loss = (q - bootstrap(reward, discount, value)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update * POINTS // settings.updates > len(way):
            with torch.no_grad():
                error = network(cells[places]).numpy() - exact[places]
                way.append(float(np.log10(np.square(error).mean())))
    return {"curve": np.round(way, 4), "log_error": float(np.mean(way))}


def problem(settings: Settings, actions: int) -> tuple[Any, Any, Any]:
    """The corridor's MDP, the policy [S, A] and its exact action values [S, A]."""
    from rlab.agents.tabular.exact import action_values, epsilon_greedy_policy, policy_evaluation, value_iteration
    from rlab.envs.chains import corridor
    from rlab.envs.tabular import model_of

    mdp = model_of(corridor(actions, settings.height, settings.width), "corridor")
    policy = epsilon_greedy_policy(value_iteration(mdp, settings.gamma), settings.epsilon)
    return mdp, policy, action_values(mdp, policy_evaluation(mdp, policy, settings.gamma), settings.gamma)


def draw(figure: Any, results: Results) -> None:
    """The error over updates, for each number of actions."""
    for axes, actions in zip(figure.subplots(1, len(ACTIONS), sharey=True), ACTIONS, strict=True):
        chosen = {kind: column(results[f"{kind}-{actions}"], "curve") for kind in ("plain", "dueling")}
        curves(axes, (np.arange(POINTS) + 1) / POINTS, chosen, ("part of the updates", "log10 squared error"))
        axes.set_title(f"{actions} actions", fontsize=9)


VARIANTS = {
    f"{kind}-{actions}": {"actions": actions, "dueling": kind == "dueling"}
    for actions in ACTIONS
    for kind in ("plain", "dueling")
}


def gain(actions: int) -> dict[str, float]:
    """By how much dueling lowers the error, as a contrast's weights."""
    return {f"plain-{actions}/log_error": 1, f"dueling-{actions}/log_error": -1}


def more(many: int, few: int) -> dict[str, float]:
    """By how much more it lowers the error with many actions than with few."""
    return gain(many) | {name: -weight for name, weight in gain(few).items()}


STUDIES.register("dueling-actions")(
    Study(
        claim="Where many actions change nothing, splitting a state's value from its actions' advantages learns a "
        "policy's values with less error, and the more so the more such actions there are.",
        source="item 272; Wang et al. 2016, section 4.1 and figure 3",
        settings=Settings(),
        smoke={"updates": 20, "width": 6, "height": 3},
        variants=VARIANTS,
        measure=measure,
        contrasts=(
            Contrast("dueling errs less with 20 actions", gain(20)),
            Contrast("it gains more with 10 actions than with 5", more(10, 5)),
            Contrast("it gains more with 20 actions than with 10", more(20, 10)),
        ),
        draw=draw,
        seeds=20,
        small={"updates": 350},
        small_seeds=5,
        claim_ja="多くの行動が何も変えない場合、状態価値と行動のアドバンテージを分けると、"
        "方策の価値をより小さい誤差で学習できる。そのような行動が多いほど、効果は大きい。",
    )
)
