"""Optimisers against their closed forms, written out in float64; schedules against torch's; resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler as peers

from rlab.errors import RlabError
from rlab.nn.optim import (
    OPTIMISERS,
    SCHEDULES,
    decayed,
    make_optimiser,
    memories_alone,
    restore,
    scale_rates,
    settle,
    state_of,
)
from rlab.nn.penalties import l2, weights_of
from tests.checkpoints import from_file

A = np.array([[3.0, 0.5, 0.0], [0.5, 1.0, -0.2], [0.0, -0.2, 0.3]])
B = np.array([1.0, -2.0, 0.5])
START = np.array([0.7, -0.3, 1.1])


Update = Callable[[int, np.ndarray, dict[str, Any]], np.ndarray]
"""(t from 1, gradient, memory) -> step to subtract."""


def gradient(w: np.ndarray) -> np.ndarray:
    """Of 1/2 w'Aw - b'w."""
    return A @ w - B


def run(update: Update, steps: int = 3, decay: float = 0.0) -> np.ndarray:
    w, memory = START.copy(), {}
    for t in range(1, steps + 1):
        step = update(t, gradient(w), memory)
        w = w * (1 - decay) - step
    return w


def mean(memory: dict[str, Any], name: str, keep: float, new: np.ndarray) -> np.ndarray:
    memory[name] = keep * memory.get(name, 0) + (1 - keep) * new
    return memory[name]


def heavy_ball(t: int, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
    memory["v"] = 0.9 * memory.get("v", 0) + g
    return 0.1 * memory["v"]


def nesterov(t: int, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
    memory["v"] = 0.9 * memory.get("v", 0) + g
    return 0.1 * (g + 0.9 * memory["v"])


def adagrad(t: int, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
    memory["s"] = memory.get("s", 0) + g**2
    return 0.1 * g / (np.sqrt(memory["s"]) + 1e-10)


def adadelta(t: int, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
    s = mean(memory, "s", 0.9, g**2)
    step = np.sqrt(memory.get("d", 0) + 1e-6) / np.sqrt(s + 1e-6) * g
    mean(memory, "d", 0.9, step**2)
    return 0.1 * step


def rmsprop(t: int, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
    return 0.1 * g / (np.sqrt(mean(memory, "s", 0.9, g**2)) + 1e-8)


def adam(t: int, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
    m, v = mean(memory, "m", 0.9, g), mean(memory, "v", 0.999, g**2)
    return 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def adamax(t: int, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
    m = mean(memory, "m", 0.9, g)
    memory["u"] = np.maximum(0.999 * memory.get("u", 0), abs(g) + 1e-8)
    return 0.1 / (1 - 0.9**t) * m / memory["u"]


def nadam(t: int, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
    """Dozat 2016 with the momentum schedule 0.9 (1 - 0.5 * 0.96^(0.004 t))."""
    m, v = mean(memory, "m", 0.9, g), mean(memory, "v", 0.999, g**2)
    now, after = (0.9 * (1 - 0.5 * 0.96 ** (0.004 * s)) for s in (t, t + 1))
    memory["product"] = memory.get("product", 1.0) * now
    ahead = after * m / (1 - memory["product"] * after) + (1 - now) * g / (1 - memory["product"])
    return 0.1 * ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def radam(t: int, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
    """Liu et al. 2020, algorithm 2: adaptive only where the variance of the second moment is tractable."""
    m, v = mean(memory, "m", 0.9, g) / (1 - 0.9**t), mean(memory, "v", 0.999, g**2)
    top = 2 / (1 - 0.999) - 1
    rho = top - 2 * t * 0.999**t / (1 - 0.999**t)
    if rho <= 5:
        return 0.1 * m
    rectified = math.sqrt((rho - 4) * (rho - 2) * top / ((top - 4) * (top - 2) * rho))
    return 0.1 * rectified * m * math.sqrt(1 - 0.999**t) / (np.sqrt(v) + 1e-8)


def lbfgs(t: int, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
    """One iteration a step: the inverse Hessian by the BFGS formula from a scaled identity (Nocedal & Wright 7.2)."""
    pairs = memory.setdefault("pairs", [])
    if t == 1:
        step = 0.1 * min(1.0, 1 / abs(g).sum()) * g
    else:
        pairs.append((-memory["step"], g - memory["g"]))
        s, y = pairs[-1]
        inverse = np.eye(3) * (s @ y) / (y @ y)
        for s, y in pairs:
            left = np.eye(3) - np.outer(s, y) / (s @ y)
            inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
        step = 0.1 * inverse @ g
    memory["g"], memory["step"] = g, step
    return step


CLOSED: dict[str, tuple[Update, dict[str, Any]]] = {
    "sgd": (lambda t, g, memory: 0.1 * g, {}),
    "momentum": (heavy_ball, {}),
    "nesterov": (nesterov, {}),
    "adagrad": (adagrad, {}),
    "adadelta": (adadelta, {}),
    "rmsprop": (rmsprop, {}),
    "adam": (adam, {}),
    "adamw": (adam, {}),
    "adamax": (adamax, {}),
    "nadam": (nadam, {}),
    "radam": (radam, {}),
    "lbfgs": (lbfgs, {"line_search_fn": None, "max_iter": 1}),
}


class Quadratic(nn.Module):
    """1/2 w'Aw - b'w of w[3, 1]."""

    def __init__(self, name: str, **options: Any):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(START).unsqueeze(1))
        self.optimiser = make_optimiser(name, [self.w], **options)
        self.a, self.b = (nn.Buffer(torch.tensor(numbers)) for numbers in (A, B))

    def loss(self) -> torch.Tensor:
        w = self.w[:, 0]
        return 0.5 * w @ self.a @ w - self.b @ w

    def step(self, penalty: float = 0.0) -> None:
        def closure() -> torch.Tensor:
            self.optimiser.zero_grad()
            loss = self.loss() + penalty * l2([self.w])
            loss.backward()
            return loss

        self.optimiser.step(closure)

    def numbers(self) -> np.ndarray:
        return self.w.detach().numpy()[:, 0].copy()


def test_all_are_looked_at() -> None:
    assert set(CLOSED) == set(OPTIMISERS)


@pytest.mark.parametrize("name", sorted(CLOSED))
@pytest.mark.parametrize("steps", [1, 3, 9])
def test_first_steps_are_the_closed_form(name: str, steps: int) -> None:
    """Items 073-079: SGD, momentum, Adagrad, Adadelta, RMSprop, Adam, AdaMax, Nadam, L-BFGS and others."""
    update, options = CLOSED[name]
    mine = Quadratic(name, lr=0.1, **options)
    for _ in range(steps):
        mine.step()
    expected = run(update, steps, decay=0.1 * 0.01 if name == "adamw" else 0.0)
    np.testing.assert_allclose(mine.numbers(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(CLOSED))
def test_a_quadratic_is_solved(name: str) -> None:
    """By how much the loss lies over its minimum, against the start: a thousandth at most."""
    rate = {"adagrad": 0.5, "adadelta": 1.0, "rmsprop": 0.01, "lbfgs": 1.0}.get(name, 0.1)
    mine = Quadratic(name, lr=rate, **({"weight_decay": 0.0} if name == "adamw" else {}))
    lowest = -0.5 * B @ np.linalg.solve(A, B)
    before = float(mine.loss().detach()) - lowest
    for _ in range(2000 if name == "adadelta" else 400):  # it begins with steps of a thousandth
        mine.step()
    assert 0 <= float(mine.loss().detach()) - lowest + 1e-12 < 1e-3 * before


@pytest.mark.parametrize(("name", "same"), [("sgd", True), ("adam", True), ("adamw", False)])
def test_a_penalty_of_l2_and_the_option_weight_decay(name: str, same: bool) -> None:
    """torch's option is the penalty in the gradient, except for adamw's."""
    one, other = Quadratic(name, lr=0.1, weight_decay=0.0), Quadratic(name, lr=0.1, weight_decay=0.3)
    for _ in range(10):
        one.step(penalty=0.3)
        other.step()
    assert (abs(one.numbers() - other.numbers()).max() < 1e-12) == same


@pytest.mark.parametrize(("name", "same"), [("sgd", True), ("momentum", False), ("adam", False)])
def test_l2_is_decay_of_the_weights_for_plain_sgd_only(name: str, same: bool) -> None:
    """Items 078, 101: decay, w <- (1 - rate * 0.3) w before the step on the loss alone, as adamw has it."""
    penalised, shrunk = Quadratic(name, lr=0.1), Quadratic(name, lr=0.1)
    for _ in range(10):
        penalised.step(penalty=0.3)
        plain = shrunk.w.detach() * (1 - 0.1 * 0.3) - shrunk.w.detach()
        shrunk.step()  # gradients at the weights before the decay
        with torch.no_grad():
            shrunk.w.add_(plain)
    assert (abs(penalised.numbers() - shrunk.numbers()).max() < 1e-12) == same
    if name == "adam":
        adamw = Quadratic("adamw", lr=0.1, weight_decay=0.3)
        for _ in range(10):
            adamw.step()
        np.testing.assert_allclose(adamw.numbers(), shrunk.numbers(), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(CLOSED))
@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_an_optimiser_resumes_to_the_bit(name: str, precision: torch.dtype, tmp_path: Path) -> None:
    """Through a checkpoint's files, in the middle of a schedule."""
    whole, first, second = (Quadratic(name).to(precision) for _ in range(3))
    for i in range(6):
        scale_rates(whole.optimiser, 1 - i / 10)
        whole.step()
    for i in range(3):
        scale_rates(first.optimiser, 1 - i / 10)
        first.step()
    second.load_state_dict(first.state_dict())
    restore(second.optimiser, from_file(state_of(first.optimiser), tmp_path))
    for i in range(3, 6):
        scale_rates(second.optimiser, 1 - i / 10)
        second.step()
    assert second.w.equal(whole.w)


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rows": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "slice": lambda x: torch.cat([x, torch.full_like(x, 5.0)], 1)[:, : x.shape[1]],
    "every second": lambda x: torch.stack([x, torch.full_like(x, 5.0)], 4)[..., 0],
}
"""What lies in memory in other ways, with the same values."""


class Valley(nn.Module):
    """Weights [4, 3, 5, 5] in some layout, and a bias; their steps depend on each other."""

    def __init__(self, name: str, layout: str, **options: Any):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(LAYOUTS[layout](torch.randn(4, 3, 5, 5, generator=draw).double()))
        self.b = nn.Parameter(torch.zeros(4).double())
        self.x = torch.randn(8, 3, 5, 5, generator=draw).double()
        self.optimiser = make_optimiser(name, self.parameters(), lr=0.01, **options)

    def step(self) -> None:
        def closure() -> torch.Tensor:
            self.optimiser.zero_grad()
            loss = (torch.einsum("bijk,oijk->bo", self.x, self.w).add(self.b) - 1).square().mean()
            loss.backward()
            return loss

        self.optimiser.step(closure)


FEW = {"lbfgs": {"max_iter": 4}}
FUSED = [(name, {"fused": True}) for name in ("adagrad", "adam", "adamw", "momentum", "nesterov", "sgd")]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("name", "options"), [*((name, FEW.get(name, {})) for name in sorted(CLOSED)), *FUSED], ids=str
)
def test_parameters_lie_in_memory_as_they_like(name: str, options: dict[str, Any], layout: str, tmp_path: Path) -> None:
    plain, whole, first, second = (Valley(name, which, **options) for which in ("rows", layout, layout, layout))
    for _ in range(3):
        for each in (plain, whole, first):
            each.step()
    second.load_state_dict(first.state_dict())
    restore(second.optimiser, from_file(state_of(first.optimiser), tmp_path))
    for _ in range(3):
        for each in (plain, whole, second):
            each.step()
    assert second.w.equal(whole.w)
    assert second.b.equal(whole.b)
    torch.testing.assert_close(whole.w, plain.w, rtol=1e-6, atol=1e-9)


def test_parameters_may_move_before_training() -> None:
    """Adagrad's sums are there from the beginning; a fused step would add to them in the order they had then."""
    plain, moved = (Valley("adagrad", "rows", fused=True) for _ in range(2))
    moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settle(moved.optimiser)
    for _ in range(3):
        plain.step()
        moved.step()
    sums = [valley.optimiser.state[valley.w]["sum"] for valley in (moved, plain)]
    torch.testing.assert_close(*sums, rtol=1e-6, atol=1e-9)


def test_a_restored_optimiser_leaves_the_state_alone() -> None:
    one, other = Valley("adam", "rows"), Valley("adam", "rows")
    one.step()
    state = state_of(one.optimiser)
    before = state["state"]["0"]["exp_avg"].clone()
    restore(other.optimiser, state)
    other.step()
    assert one.optimiser.state[one.w]["exp_avg"].equal(before)


def test_an_expanded_parameter_is_refused() -> None:
    tied = nn.Parameter(torch.zeros(1, 3).expand(5, 3))
    with pytest.raises(RlabError, match=r"parameter 1 has shape \[5, 3\] and elements that share memory.*contiguous"):
        make_optimiser("adam", [nn.Parameter(torch.zeros(2)), tied], fused=True)


def test_memories_alone_are_of_all_parameters() -> None:
    one, other = Valley("adam", "rows"), Valley("adam", "rows")
    one.step()
    memories = list(state_of(one.optimiser)["state"].values())
    restore(other.optimiser, memories_alone(other.optimiser, memories))
    assert other.optimiser.state[other.b]["exp_avg"].equal(one.optimiser.state[one.b]["exp_avg"])
    with pytest.raises(RlabError, match=r"it remembers 1 of 2 parameters"):
        memories_alone(other.optimiser, memories[1:])


def test_a_state_of_another_optimiser_is_refused() -> None:
    one = make_optimiser("adam", [nn.Parameter(torch.ones(1))])
    with pytest.raises(RlabError, match="state does not fit: loaded state dict"):
        restore(one, state_of(make_optimiser("adam", [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))])))
    with pytest.raises(RlabError, match=r"it is of one with .*'momentum'.*, not .*'betas'"):
        restore(one, state_of(make_optimiser("sgd", [nn.Parameter(torch.ones(1))])))


def test_groups_with_and_without_decay() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.PReLU())
    groups = decayed(network, 0.1)
    assert [len(g["params"]) for g in groups] == [1, 4]
    optimiser = make_optimiser("sgd", groups, lr=1.0)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    after = dict(network.named_parameters())
    torch.testing.assert_close(after["0.weight"].detach(), 0.9 * before.pop("0.weight"))
    assert all(after[name].equal(value) for name, value in before.items())
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in network.parameters()}
    assert weights_of(network) == groups[0]["params"]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("adm", {}, "unknown optimiser 'adm'; nearest: adam"),
        ("sgd", {"moment": 0.9}, "optimiser 'sgd' has no option 'moment'; nearest: momentum"),
        ("sgd", {"params": []}, "has no option 'params'"),
        ("adam", {"lr": -1.0}, "optimiser 'adam': Invalid learning rate: -1"),
        ("adam", {"lr": math.nan}, "optimiser 'adam': lr is nan"),
        ("adam", {"lr": "fast"}, "optimiser 'adam': "),
        ("nesterov", {"momentum": 0.0}, "optimiser 'nesterov': Nesterov momentum requires"),
    ],
)
def test_bad_input_is_one_sentence(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(RlabError, match=says):
        make_optimiser(name, [nn.Parameter(torch.ones(1))], **options)


def test_options_of_a_schedule_and_factors() -> None:
    with pytest.raises(RlabError, match="schedule 'cosine' has no option 'lst'; nearest: last"):
        SCHEDULES.get("cosine")(0.5, lst=0.1)
    with pytest.raises(RlabError, match="factor of 0 or more, not nan"):
        scale_rates(make_optimiser("sgd", [nn.Parameter(torch.ones(1))]), math.nan)
    with pytest.raises(RlabError, match=r"decay is 0 or more, not -0\.1"):
        decayed(nn.Linear(1, 1), -0.1)


def test_no_parameters_at_all() -> None:
    with pytest.raises(RlabError, match="optimiser 'sgd': optimizer got an empty parameter list"):
        make_optimiser("sgd", [])


def rates(scheduler: Callable[[torch.optim.Optimizer], Any], steps: int) -> Iterator[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    peer = scheduler(optimiser)
    for _ in range(steps):
        yield optimiser.param_groups[0]["lr"]
        optimiser.step()
        peer.step()


PEERS: dict[str, tuple[Callable[[Any], Any], dict[str, Any], int]] = {
    "constant": (lambda o: peers.LambdaLR(o, lambda _: 1.0), {}, 100),
    "linear": (lambda o: peers.LinearLR(o, 1.0, 0.2, total_iters=100), {"last": 0.2}, 100),
    "step": (lambda o: peers.MultiStepLR(o, [30, 60, 90], gamma=0.5), {"factor": 0.5, "at": (0.3, 0.6, 0.9)}, 100),
    "cosine": (lambda o: peers.CosineAnnealingLR(o, 100, eta_min=0.1), {"last": 0.1}, 100),
    "exponential": (lambda o: peers.ExponentialLR(o, 0.97), {"last": 0.97**100}, 100),
    "inverse": (lambda o: peers.LambdaLR(o, lambda t: 1 / (1 + 0.05 * t)), {"rate": 5.0}, 100),
    "cyclic": (lambda o: peers.CyclicLR(o, 0.2, 1.0, 10, cycle_momentum=False), {"cycles": 5, "low": 0.2}, 100),
    "warm-up": (lambda o: peers.LinearLR(o, 1e-12, 1.0, total_iters=25), {"over": 0.25}, 100),
    # torch has the peak one step before, and the end at the last step
    "one-cycle": (
        lambda o: peers.OneCycleLR(o, 1.0, total_steps=101, pct_start=31 / 101, cycle_momentum=False),
        {"peak": 0.3},
        100,
    ),
}


@pytest.mark.parametrize("name", sorted(PEERS))
def test_schedules_are_those_of_torch(name: str) -> None:
    """Item 069: step, cosine, warm-up, cyclic, 1/t and others."""
    scheduler, options, steps = PEERS[name]
    mine = [SCHEDULES.get(name)(t / steps, **options) for t in range(steps + 1)]
    np.testing.assert_allclose(mine, list(rates(scheduler, steps + 1)), rtol=1e-9, atol=1e-11)


def test_warm_up_and_then_another() -> None:
    assert set(SCHEDULES) == {*PEERS, "warm-up-cosine"}
    factor = SCHEDULES.get("warm-up-cosine")
    assert [factor(p, over=0.2) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@settings(deadline=None)
@given(progress=st.floats(-1, 2))
def test_a_factor_lies_within_0_to_1_and_stays_beyond_the_ends(name: str, progress: float) -> None:
    schedule = SCHEDULES.get(name)
    assert 0 <= schedule(progress) <= 1
    if progress > 1:
        assert schedule(progress) == schedule(1.0)
    if progress < 0:
        assert schedule(progress) == schedule(0.0)


def test_rates_are_scaled_from_where_each_group_began() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimiser = make_optimiser("adam", [{"params": [a], "lr": torch.tensor(0.5)}, {"params": [b]}], lr=2)
    tensor = optimiser.param_groups[0]["lr"]
    for factor in (0.5, 0.25, 1.0, 0.1):
        scale_rates(optimiser, factor)
        assert optimiser.param_groups[0]["lr"] is tensor
        assert tensor.item() == pytest.approx(0.5 * factor)
        assert optimiser.param_groups[1]["lr"] == pytest.approx(2 * factor)
