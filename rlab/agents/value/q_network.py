"""Action values of an observation, and the player that evaluations use: shared by every value-based agent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rlab.agents.graph import Q_VALUES, policy_graph
from rlab.agents.types import Transitions, Windows
from rlab.agents.value.config import QConfig
from rlab.agents.value.distributions import midpoints
from rlab.agents.value.exploration import epsilon_greedy
from rlab.errors import RlabError
from rlab.nn import ImplicitQHead, NoisyLinear, QHead, make_encoder
from rlab.nn.encoders import image_shape
from rlab.nn.graph import Graph
from rlab.nn.inputs import Inputs
from rlab.nn.layers import SpectralConv2d
from rlab.nn.modes import depends_on_mode
from rlab.nn.modes import encode as encode_by_mode
from rlab.nn.precision import autocast, channels_last


class QNetwork(nn.Module):
    """Observations as an environment gives them -> action values: scaling, encoder, Q-head.

    An encoder with dropout or batch statistics is in training mode only where gradients are wanted, see
    `rlab.nn.modes`.

    Args:
        space: of observations.
        actions: A.
        encoder: its name.
        bf16: whether the encoder computes in bfloat16; heads never do.
        config: says which head; None: a plain one.
    """

    def __init__(self, space: gym.Space[Any], actions: int, encoder: str, bf16: bool, config: QConfig | None = None):
        super().__init__()
        self.inputs = Inputs(space)
        shape = self.inputs.shape
        c = config or QConfig()
        self.recurrent = c.recurrent
        self.encoder = make_encoder(encoder, shape, c.recurrent, memory=c.memory)
        self.modes = depends_on_mode(self.encoder, shape)
        features: int = self.encoder.out_dim  # type: ignore[assignment]
        self.value = c.value
        linear = partial(NoisyLinear, sigma=c.noisy_sigma) if c.explore == "noisy" else nn.Linear
        self.head: nn.Module
        if c.value == "iqn":
            self.head = ImplicitQHead(features, actions, c.cosines, c.dueling, c.hidden, linear)
        else:
            atoms = {"expected": 1, "c51": c.atoms, "qr": c.quantiles}[c.value]
            self.head = QHead(features, actions, atoms, c.dueling, c.hidden, linear)
        self.act_taus: Tensor  # [N], evenly spread
        self.register_buffer("act_taus", midpoints(c.act_taus), persistent=False)
        self.support: Tensor  # [K], the values that a return can have (c51)
        self.register_buffer("support", torch.linspace(c.v_min, c.v_max, c.atoms), persistent=False)
        self.noisy_layers = [m for m in self.modules() if isinstance(m, NoisyLinear)]
        self._spectral = [m for m in self.modules() if isinstance(m, SpectralConv2d)]
        self.bf16 = bf16
        # Images that come with their channels last already lie so.
        first = image_shape(shape) == shape
        self.channels_last = first and channels_last(shape, bf16, getattr(self.encoder, "norm", False))
        self.eval()

    def iterate(self) -> None:
        """Follow the weights' largest singular values, where they are divided out."""
        for layer in self._spectral:
            if layer.weight.requires_grad:  # of a frozen one nothing moves
                layer.iterate()

    def resample(self, generator: torch.Generator) -> None:
        """Draw new noise for the layers that have it."""
        for layer in self.noisy_layers:
            layer.resample(generator)

    def forward(self, obs: Tensor, taus: Tensor | None = None) -> Tensor:
        """obs[B, *shape] (images are scaled to 0..1, classes become one-hot) -> the head's outputs, float32.

        Q[B, A]; with c51 logits over the support, with qr quantiles: [B, A, K]; with iqn quantiles at taus[B, N], or at
        evenly spread ones: [B, A, N].
        """
        return self.head_outputs(self.encode(obs), taus)

    def encode(self, obs: Tensor) -> Tensor:
        """obs[B, *shape] -> features float32[B, D]; a recurrent network takes each for the first of an episode."""
        if self.recurrent:
            first = torch.ones(1, len(obs), dtype=torch.bool, device=obs.device)
            return self.unroll(obs.unsqueeze(0), self.initial_state(len(obs)), first)[0].squeeze(0)
        x = self._scaled(obs)
        with autocast(x.device, self.bf16):
            features = encode_by_mode(self.encoder, self.modes, x)
        return features.float()

    def unroll(self, obs: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Unroll a recurrent encoder: obs[T, B, *shape], state[B, S], first bool[T, B] -> features[T, B, D], state.

        The state before an episode's first observation is zero, whatever came in.
        """
        x = self._scaled(obs)
        with autocast(x.device, self.bf16):
            features, state = encode_by_mode(self.encoder, self.modes, x, state, first)
        return features.float(), state.float()

    def initial_state(self, streams: int) -> Tensor:
        """The state before anything was seen: zeros [streams, S]."""
        width: int = self.encoder.state_dim  # type: ignore[assignment]
        return torch.zeros(streams, width, device=self.act_taus.device)

    def head_outputs(self, features: Tensor, taus: Tensor | None = None) -> Tensor:
        """features[B, D] -> the head's outputs, as `forward` describes them."""
        if self.value == "iqn":
            return self.head(features, self.act_taus.expand(features.shape[0], -1) if taus is None else taus)
        return self.head(features)  # close values of actions need more than bf16's 8 bits

    def _scaled(self, obs: Tensor) -> Tensor:
        if self.channels_last and obs.ndim == 4:  # images: put in order while their values are bytes
            obs = obs.contiguous(memory_format=torch.channels_last)
        scaled: Tensor = self.inputs(obs, torch.bfloat16 if self.bf16 else torch.float32)
        return scaled

    def q_values(self, outputs: Tensor) -> Tensor:
        """Q[B, A], the expectations of the head's outputs."""
        if self.value == "expected":
            return outputs
        return (outputs.softmax(dim=-1) @ self.support) if self.value == "c51" else outputs.mean(dim=-1)

    def graph(self, observations: gym.Space[Any]) -> Graph:
        """Return it for an export, in float32 and without noise; see `rlab.agents.graph.ExportsPolicy`."""
        self.bf16 = False
        for layer in self.noisy_layers:
            layer.noise = False

        def call(network: QNetwork, obs: Tensor, state: Tensor | None = None) -> Any:
            if state is None:
                return network.q_values(network(obs))
            going_on = torch.zeros(1, obs.shape[0], dtype=torch.bool)
            features, after = network.unroll(obs.unsqueeze(0), state, going_on)
            return network.q_values(network.head_outputs(features.squeeze(0))), after

        state_dim = int(self.encoder.state_dim) if self.recurrent else 0  # type: ignore[arg-type]
        return policy_graph(self, observations, call, Q_VALUES, state_dim)

    def predict(self, obs: np.ndarray, noise: bool = False) -> np.ndarray:
        """obs[N, *shape] -> Q float32[N, A], without gradients; by mean weights unless `noise`."""
        if self.noisy_layers and not noise:
            with self._without_noise():
                return self.predict(obs, noise=True)
        with torch.inference_mode():
            return self.q_values(self(self._tensor(obs))).cpu().numpy()

    def predict_step(
        self, obs: np.ndarray, state: np.ndarray, first: np.ndarray, noise: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """One step of a recurrent network: obs[N, *shape], state[N, S], first bool[N] -> (Q float32[N, A], state)."""
        if self.noisy_layers and not noise:
            with self._without_noise():
                return self.predict_step(obs, state, first, noise=True)
        with torch.inference_mode():
            x, before, starts = (self._tensor(a) for a in (obs, state, first))
            features, after = self.unroll(x.unsqueeze(0), before, starts.unsqueeze(0))
            q = self.q_values(self.head_outputs(features.squeeze(0)))
        return q.cpu().numpy(), after.cpu().numpy()

    @contextmanager
    def _without_noise(self) -> Iterator[None]:
        for layer in self.noisy_layers:
            layer.noise = False
        try:
            yield
        finally:
            for layer in self.noisy_layers:
                layer.noise = True

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self.act_taus.device)


class StartsAtZero(Protocol):
    """A network with a recurrent state."""

    def initial_state(self, streams: int) -> Tensor:
        """The state before anything was seen: zeros [streams, S]."""


class CarriedState:
    """The recurrent state of N streams, carried from step to step.

    Attributes:
        state: float32[N, S] before the next step; None before the first one, and for networks without a state.
    """

    def __init__(self, network: StartsAtZero):
        self._starts = network
        self.state: np.ndarray | None = None

    def before(self, streams: int, first: np.ndarray) -> np.ndarray:
        """The state [N, S] before the step that comes next, where `first` zeros are still to be put.

        Raises:
            RlabError: these are other streams than before, and not all of them start.
        """
        if self.state is None or (len(self.state) != streams and first.all()):
            self.state = self._starts.initial_state(streams).cpu().numpy()
        if len(self.state) != streams:
            raise RlabError(
                f"a recurrent policy follows {len(self.state)} games, but {streams} observations came; say with "
                "`first` that all of them start"
            )
        return self.state


class RecurrentState(CarriedState):
    """The recurrent state of a Q-network, if it has one."""

    def __init__(self, network: QNetwork):
        super().__init__(network)
        self.network = network

    def predict(self, obs: np.ndarray, first: np.ndarray, noise: bool = False) -> np.ndarray:
        """obs[N, *shape], first bool[N] (an episode starts) -> Q float32[N, A].

        Raises:
            RlabError: these are other streams than before, and not all of them start.
        """
        if not self.network.recurrent:
            return self.network.predict(obs, noise)
        q, self.state = self.network.predict_step(obs, self.before(len(obs), first), first, noise)
        return q


class QPolicy:
    """Plays epsilon-greedily with random numbers of its own; leaves the agent untouched."""

    def __init__(self, network: QNetwork, seed: int, epsilon: float):
        self.epsilon = epsilon
        self.q_values: np.ndarray | None = None
        self._recurrent_state = RecurrentState(network)
        self._rng = np.random.default_rng(seed)

    def values(self, obs: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """What the agent thinks: obs[N, *shape], first bool[N] (None: nothing starts) -> Q[N, A]; counts as a step."""
        return self._recurrent_state.predict(obs, np.zeros(len(obs), bool) if first is None else first)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N]."""
        self.q_values = q = self._recurrent_state.predict(obs, first)
        return epsilon_greedy(best(q, mask), self.epsilon, mask, q.shape[1], self._rng)


class NetworkOutputs(NamedTuple):
    """Both encoders' outputs for B transitions: features [B, D], all but `online` without gradient."""

    online: Tensor
    """Of obs, by the online network."""
    target_next: Tensor
    """Of next_obs, by the target network."""
    online_next: Tensor | None
    """Of next_obs, by the online network: for double."""
    target: Tensor | None
    """Of obs, by the target network: for Munchausen."""


def forward_batch(
    online: QNetwork, target: QNetwork, batch: Transitions, double: bool, munchausen: bool
) -> NetworkOutputs:
    """Encode a batch with both networks."""
    if batch.windows is not None:
        return unroll_batch(online, target, batch.obs, batch.windows, double, munchausen)
    with torch.no_grad():
        target_next = target.encode(batch.next_obs)
        target_now = target.encode(batch.obs) if munchausen else None
        online_next = online.encode(batch.next_obs) if double else None
    return NetworkOutputs(online.encode(batch.obs), target_next, online_next, target_now)


def unroll_batch(
    online: QNetwork, target: QNetwork, obs: Tensor, windows: Windows, double: bool, munchausen: bool
) -> NetworkOutputs:
    """Unroll both networks over windows of obs[E, W, *shape], from the stored states (Kapturowski et al. 2019, 2.3).

    Over the first `burn_in` steps each network only makes its own state out of the stored, aged one, without
    gradient; no transition is of there.
    """
    start = windows.burn_in

    def unroll(network: QNetwork, learns: bool) -> Tensor:
        state = windows.state
        with torch.no_grad():
            if start:
                _, state = network.unroll(obs[:start], state, windows.first[:start])
        with torch.set_grad_enabled(learns):
            features, _ = network.unroll(obs[start:], state, windows.first[start:])
        return features.flatten(0, 1)

    by_online, by_target = unroll(online, torch.is_grad_enabled()), unroll(target, False)
    chooser = by_online.detach()
    if double and online.modes:  # what chooses is in evaluation mode
        chooser = unroll(online, False)
    return NetworkOutputs(
        online=by_online[windows.now],
        target_next=by_target[windows.following],
        online_next=chooser[windows.following] if double else None,
        target=by_target[windows.now] if munchausen else None,
    )


def best(q: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The best allowed action by q[N, A]: int64[N]."""
    return (q if mask is None else np.where(mask, q, -np.inf)).argmax(axis=1)
