"""Action values of an observation, and the player that evaluations use: shared by every value-based agent."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.config import QConfig
from agents.distributions import midpoints
from agents.exploration import epsilon_greedy
from rlab.nn import ImplicitQHead, NoisyLinear, QHead, make_encoder
from rlab.nn.layers import SpectralConv2d


class QNetwork(nn.Module):
    """Observations as an environment gives them -> action values: scaling, encoder, Q-head.

    Args:
        space: of observations.
        actions: A.
        encoder: its name.
        bf16: whether the encoder computes in bfloat16; heads never do.
        config: says which head; None: a plain one.
    """

    def __init__(self, space: gym.Space[Any], actions: int, encoder: str, bf16: bool, config: QConfig | None = None):
        super().__init__()
        self.classes = int(space.n) if isinstance(space, gym.spaces.Discrete) else 0
        shape = (self.classes,) if self.classes else space.shape
        assert shape is not None
        self.encoder = make_encoder(encoder, shape)
        features: int = self.encoder.out_dim  # type: ignore[assignment]
        c = config or QConfig()
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
        self.channels_last = len(shape) == 3 and getattr(self.encoder, "norm", False)

    def iterate(self) -> None:
        """Follow the weights' largest singular values, where they are divided out."""
        for layer in self._spectral:
            layer.iterate()

    def resample(self, generator: torch.Generator) -> None:
        """Draw new noise for the layers that have it."""
        for layer in self.noisy_layers:
            layer.resample(generator)

    def forward(self, obs: Tensor, taus: Tensor | None = None) -> Tensor:
        """obs[B, *shape] (uint8 images are scaled to 0..1, classes become one-hot) -> what the head says, float32.

        Q[B, A]; with c51 logits over the support, with qr quantiles: [B, A, K]; with iqn quantiles at taus[B, N], or at
        evenly spread ones: [B, A, N].
        """
        if self.classes:
            x = F.one_hot(obs.long(), self.classes).float()
        elif obs.dtype == torch.uint8:
            x = obs.to(torch.bfloat16 if self.bf16 else torch.float32).mul_(1 / 255)
        else:
            x = obs.float()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.encoder(x)
        features = features.float()
        if self.value == "iqn":
            return self.head(features, self.act_taus.expand(len(features), -1) if taus is None else taus)
        return self.head(features)  # close values of actions need more than bf16's 8 bits

    def expected(self, output: Tensor) -> Tensor:
        """Q[B, A], the expectations of what `forward` returns."""
        if self.value == "expected":
            return output
        return (output.softmax(dim=-1) @ self.support) if self.value == "c51" else output.mean(dim=-1)

    def q_values(self, obs: np.ndarray, noise: bool = False) -> np.ndarray:
        """obs[N, *shape] -> Q float32[N, A], without gradients; by mean weights unless `noise`."""
        quiet = [] if noise else self.noisy_layers
        for layer in quiet:
            layer.noise = False
        with torch.inference_mode():
            seen = torch.from_numpy(np.array(obs)).to(self.act_taus.device)
            if self.channels_last:
                seen = seen.contiguous(memory_format=torch.channels_last)  # while an image's values are bytes
            q = self.expected(self(seen)).cpu().numpy()
        for layer in quiet:
            layer.noise = True
        return q


class QPolicy:
    """Plays epsilon-greedily with random numbers of its own; leaves the agent untouched."""

    def __init__(self, network: QNetwork, seed: int, epsilon: float):
        self.values = network.q_values  # for showing what the agent thinks
        self.epsilon = epsilon
        self._network = network
        self._rng = np.random.default_rng(seed)

    def act(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """obs[N, *shape], first bool[N], mask bool[N, A] or None -> int64[N]."""
        q = self._network.q_values(obs)
        return epsilon_greedy(best(q, mask), self.epsilon, mask, q.shape[1], self._rng)


def best(q: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The best allowed action by q[N, A]: int64[N]."""
    return (q if mask is None else np.where(mask, q, -np.inf)).argmax(axis=1)


def use_bf16(precision: str, device: torch.device, images: bool) -> bool:
    """Whether the encoder computes in bf16: asked for, or images on hardware that has instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if not images:
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
