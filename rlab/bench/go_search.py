"""Simulations of tree search in Go: ours beside mctx's search with pgx's Go, the same network, in turn, on all cores.

Both are Gumbel searches with 16 considered actions from the empty board, one network batch a simulation for all games.
The network is AlphaGo Zero's with the same layers and the same random weights; each library shows it 17 planes of its
own. mctx and pgx are compiled by JAX and run in fp32, as they are.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ENCODERS = {5: "go-resnet-3x32"}
"""Size of the board -> encoder; of others `LARGE`."""
LARGE = "go-resnet"
GAMES = {5: 256}
FEWER = 64
MANY = 4_096
"""Games side by side, which a GPU needs to be busy."""
CONSIDERED = 16


def measure(
    size: int, games: int, visits: int, rounds: int, precision: str, device: str, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Time searches of all games, in turn.

    Args:
        size: of the board.
        games: side by side; 0: 256 on 5x5, else 64; 4,096 on a GPU.
        visits: simulations of a search.
        rounds: searches of each; medians count.
        precision: of our network; mctx's is fp32.
        device: of our network: auto, cpu, cuda or cuda:N; the peer is only measured beside a CPU.
        progress: told what is being measured.

    Returns:
        JSON: ``sims_per_s``, ``mctx_sims_per_s`` and ``search_ratio`` (None where mctx and pgx are not installed),
        ``network_per_s``, positions that our network alone evaluates in such batches, and every measurement.
    """
    import torch

    from rlab.agents.go.config import NetConfig
    from rlab.agents.go.evaluator import Evaluator
    from rlab.agents.go.network import GoNetwork
    from rlab.agents.go.tree_game import GoGame
    from rlab.agents.search import Gumbel, search
    from rlab.envs.go.boards import Boards, Setting
    from rlab.machine import cores
    from rlab.run.lifecycle import resolve_device

    torch.set_num_threads(cores())
    torch.manual_seed(0)
    device = resolve_device(device)
    on_gpu = device.startswith("cuda")
    games = games or (MANY if on_gpu else GAMES.get(size, FEWER))
    encoder = ENCODERS.get(size, LARGE)
    network = GoNetwork(NetConfig(encoder, ownership=False, score=False), size)
    evaluator = Evaluator(network, device, precision=precision)
    boards = Boards(games, Setting(size))
    game = GoGame(boards.setting, games)
    budget = np.full(games, visits)

    def ours(k: int) -> None:
        search(game, boards, evaluator, budget, np.arange(games, dtype=np.uint64) + np.uint64(k), Gumbel(CONSIDERED))

    rows = np.arange(games)
    start = game.step(boards, rows, np.zeros((games, 1), np.int32), np.zeros(games, np.int32))
    rng_keys = np.arange(games, dtype=np.uint64) << np.uint64(58)

    def bare(k: int) -> None:
        for _ in range(visits):
            evaluator(start.positions, rows, rng_keys)

    ways: dict[str, Callable[[int], None]] = {"ours": ours, "network": bare}
    if not on_gpu and importlib.util.find_spec("mctx") is not None and importlib.util.find_spec("pgx") is not None:
        ways["mctx"] = _mctx(network, size, games, visits)
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for way, run in ways.items():
        progress(f"{way}, compiling")
        run(0)
    for k in range(rounds):
        for way, run in ways.items():
            progress(f"{way}, {k + 1} of {rounds}")
            started = time.perf_counter()
            run(k + 1)
            speeds[way].append(games * visits / (time.perf_counter() - started))
    rate = {way: statistics.median(measured) for way, measured in speeds.items()}
    return {
        "search_encoder": encoder,
        "search_device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "search_games": games,
        "search_visits": visits,
        "search_threads": cores(),
        "precision": str(evaluator.dtype).removeprefix("torch."),
        "sims_per_s": rate["ours"],
        "network_per_s": rate["network"],
        "mctx_sims_per_s": rate.get("mctx"),
        "search_ratio": rate["ours"] / rate["mctx"] if "mctx" in rate else None,
        "search_speeds": speeds,
    }


def _mctx(network: Any, size: int, games: int, visits: int) -> Callable[[int], None]:
    """A search of mctx in pgx's Go with the same layers."""
    import jax
    import jax.numpy as jnp
    import mctx
    from pgx.go import Go
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    network.eval()

    def folded(conv: Any, norm: Any) -> tuple[Any, Any]:
        fused = fuse_conv_bn_eval(conv, norm)
        return jnp.asarray(fused.weight.detach().numpy().transpose(2, 3, 1, 0)), jnp.asarray(
            fused.bias.detach().numpy()
        )

    def dense(linear: Any) -> tuple[Any, Any]:
        return jnp.asarray(linear.weight.detach().numpy().T), jnp.asarray(linear.bias.detach().numpy())

    encoder, head = network.encoder, network.head
    weights = {
        "stem": folded(encoder.stem[0], encoder.stem[1]),
        "blocks": [(folded(b.conv1, b.norm1), folded(b.conv2, b.norm2)) for b in encoder.blocks],
        "policy": folded(head.policy.conv, head.policy.norm),
        "bias": dense(head.policy.bias),
        "point": jnp.asarray(head.policy.point.weight.detach().numpy()[0, :, 0, 0]),
        "pass": dense(head.policy.pass_),
        "conv": folded(head.conv, head.norm),
        "hidden": dense(head.dense[0]),
        "value": dense(head.value),
    }

    def conv(x: Any, layer: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, layer[0], (1, 1), "SAME", dimension_numbers=numbers) + layer[1]

    def linear(x: Any, layer: Any) -> Any:
        return x @ layer[0] + layer[1]

    def pooled(x: Any) -> Any:
        return jnp.concatenate((x.mean((1, 2)), x.max((1, 2))), 1)

    def ask(w: Any, observation: Any) -> tuple[Any, Any]:
        y = jax.nn.relu(conv(observation.astype(jnp.float32), w["stem"]))
        for first, second in w["blocks"]:
            y = jax.nn.relu(conv(jax.nn.relu(conv(y, first)), second) + y)
        p = jax.nn.relu(conv(y, w["policy"]))
        everywhere = pooled(p)
        points = jax.nn.relu(p + linear(everywhere, w["bias"])[:, None, None]) @ w["point"]
        logits = jnp.concatenate((points.reshape(len(y), -1), linear(everywhere, w["pass"])), 1)
        value = jax.nn.softmax(
            linear(jax.nn.relu(linear(pooled(jax.nn.relu(conv(y, w["conv"]))), w["hidden"])), w["value"])
        )
        return logits, value[:, 1] - value[:, 0]

    env = Go(size=size)
    step = jax.vmap(env.step)

    def recur(w: Any, key: Any, action: Any, state: Any) -> Any:
        before = state.current_player
        state = step(state, action)
        logits, value = ask(w, state.observation)
        logits = jnp.where(state.legal_action_mask, logits, jnp.finfo(logits.dtype).min)
        reward = state.rewards[jnp.arange(len(before)), before]
        value = jnp.where(state.terminated, 0.0, value)
        discount = jnp.where(state.terminated, 0.0, -1.0)
        return mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=logits, value=value), state

    @jax.jit
    def run(w: Any, key: Any) -> Any:
        state = jax.vmap(env.init)(jax.random.split(key, games))
        logits, value = ask(w, state.observation)
        root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=state)
        policy = mctx.gumbel_muzero_policy(
            w, key, root, recur, visits, invalid_actions=~state.legal_action_mask, max_num_considered_actions=CONSIDERED
        )
        return policy.action

    return lambda k: run(weights, jax.random.PRNGKey(k)).block_until_ready()
