"""Writing sequences with a model that has `step(ids[B], state) -> (logits[B, K], state)`: sampling and beam search.

A state is a tree of tuples and dicts with tensors whose first axis is the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlab.errors import RlabError

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


def select(state: Any, index: Tensor) -> Any:
    """Take rows of the first axis of every tensor in a state."""
    if isinstance(state, Tensor):
        return state.index_select(0, index)
    if isinstance(state, dict):
        return {name: select(part, index) for name, part in state.items()}
    if isinstance(state, (tuple, list)):
        return tuple(select(part, index) for part in state)
    return state


def batch_size(state: Any) -> int | None:
    """Length of the first axis of the first tensor in a state; None if there is none."""
    if isinstance(state, Tensor):
        return len(state)
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (tuple, list)) else ()
    return next((size for size in map(batch_size, parts) if size is not None), None)


def next_probabilities(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """logits[B, K] -> the probabilities that are sampled from, [B, K].

    Args:
        logits: of what comes next.
        temperature: logits are divided by it; 0 leaves the likeliest token alone.
        top_k: only the k likeliest tokens stay; 0: all.
        top_p: only the likeliest tokens stay whose probabilities sum to p, the one that reaches p among them (Holtzman
            et al. 2020).
    """
    if temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise RlabError(
            f"sampling takes a temperature and a top_k of 0 or more and top_p in (0, 1], not {temperature}, {top_k} "
            f"and {top_p}"
        )
    if temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    logits = (logits - logits.amax(1, keepdim=True)).double() / temperature  # finite, however near 0 or large that is
    if 0 < top_k < logits.shape[1]:
        kept = logits.topk(top_k).indices
        logits = torch.full_like(logits, -torch.inf).scatter_(1, kept, logits.gather(1, kept))
    p = logits.softmax(1).float()
    if top_p < 1:
        ordered, index = p.sort(dim=1, descending=True, stable=True)
        before = ordered.cumsum(1) - ordered
        p = torch.zeros_like(p).scatter_(1, index, ordered.masked_fill(before >= top_p, 0.0))
        p = p / p.sum(1, keepdim=True)
    return p


def stream_tokens(
    step: Step,
    state: Any,
    prompt: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Yield one token after the other, ids int64[B] each, without end.

    Args:
        step: of a model, see the top of this file.
        state: before the prompt.
        prompt: ids int64[B, P], at least one.
        temperature: see `next_probabilities`, also for the next two.
        top_k: see there.
        top_p: see there.
        generator: of the CPU; None: torch's own.
    """
    if not prompt.shape[1]:
        raise RlabError("sampling goes on from a prompt of at least one token, and this one is empty; nearest: BOS")
    with torch.inference_mode():
        for ids in prompt.unbind(1):
            logits, state = step(ids, state)
    while True:
        with torch.inference_mode():
            p = next_probabilities(logits, temperature, top_k, top_p)
            ids = torch.multinomial(p.cpu(), 1, generator=generator).squeeze(1).to(prompt.device)
        yield ids
        with torch.inference_mode():
            logits, state = step(ids, state)


def sample_tokens(
    step: Step,
    state: Any,
    prompt: Tensor,
    n: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sample n tokens that follow a prompt: ids int64[B, n], the prompt not among them; see `stream_tokens`."""
    stream = stream_tokens(step, state, prompt, temperature, top_k, top_p, generator)
    found = [next(stream) for _ in range(n)]
    return torch.stack(found, dim=1) if found else prompt.new_empty(len(prompt), 0)


class Hypothesis(NamedTuple):
    """A sequence that a beam search found."""

    ids: list[int]
    """Without BOS and EOS."""
    log_probability: float
    """Of the whole, with its EOS, in nats."""
    score: float
    """What it is ranked by: the log-probability over length ** length_penalty; EOS counts as a token."""


def beam_search(
    step: Step,
    state: Any,
    bos: int,
    eos: int,
    beam: int = 5,
    length_penalty: float = 1.0,
    max_length: int = 100,
) -> list[list[Hypothesis]]:
    """Find the best sequences from BOS to EOS for every row of a state, each row by itself.

    A row is done when `beam` sequences have ended; those that `max_length` cuts off stand as they are. With a beam of
    1 it takes the likeliest token at each step.

    Args:
        step: of a model, see the top of this file.
        state: after the source was read; at least one tensor, whose first axis is the batch.
        bos: id that is given first.
        eos: id that ends a sequence.
        beam: sequences that are followed at once.
        length_penalty: 0 ranks by log-probability, which favours short ones; 1 by its mean per token.
        max_length: tokens at the most, EOS among them.

    Returns:
        For every row its sequences, the best first, at most `beam`.
    """
    if beam < 1 or max_length < 1:
        raise RlabError(f"a beam search takes a beam and a max_length of 1 or more, not {beam} and {max_length}")
    rows = batch_size(state)
    if rows is None:
        raise RlabError("a beam search takes a state with a tensor in it, whose first axis is the batch")
    with torch.inference_mode():
        return _beam_search(step, state, rows, bos, eos, beam, length_penalty, max_length)


def _beam_search(
    step: Step, state: Any, rows: int, bos: int, eos: int, beam: int, length_penalty: float, max_length: int
) -> list[list[Hypothesis]]:
    found: list[list[Hypothesis]] = [[] for _ in range(rows)]
    live = list(range(rows))
    ids = [[bos] for _ in range(rows)]
    written: list[list[list[int]]] = [[[]] for _ in range(rows)]  # of each live row, of each of its beams
    total = [[0.0] for _ in range(rows)]
    for length in range(1, max_length + 1):
        if not live:
            break
        width = len(total[live[0]])
        device = _device(state)
        logits, state = step(torch.tensor([i for row in live for i in ids[row]], device=device), state)
        logp = logits.double().log_softmax(1).cpu().view(len(live), width, -1)
        logp = logp + torch.tensor([total[row] for row in live], dtype=torch.float64).unsqueeze(2)
        classes = logp.shape[2]
        best, index = logp.flatten(1).topk(min(2 * beam, width * classes), dim=1)
        parents: list[int] = []
        following = []
        for place, row in enumerate(live):
            ranked = zip(best[place].tolist(), index[place].tolist(), strict=True)
            kept: list[tuple[float, int, int]] = []
            for rank, (value, where) in enumerate(ranked):
                parent, token = divmod(where, classes)
                if value == -torch.inf or len(kept) == beam:
                    break
                if token != eos:
                    kept.append((value, parent, token))
                elif rank < beam:
                    text = written[row][parent]
                    found[row].append(Hypothesis(text, value, value / length**length_penalty))
            if len(found[row]) >= beam or not kept:
                continue
            if length == max_length:
                ends = [Hypothesis([*written[row][p], t], v, v / length**length_penalty) for v, p, t in kept]
                found[row] += ends[: beam - len(found[row])]
                continue
            kept += [(-torch.inf, kept[0][1], kept[0][2])] * (beam - len(kept))
            following.append(row)
            parents += [place * width + p for _, p, _ in kept]
            written[row] = [[*written[row][p], t] for _, p, t in kept]
            ids[row], total[row] = [t for _, _, t in kept], [v for v, _, _ in kept]
        live = following
        if live:
            state = select(state, torch.tensor(parents, device=device))
    return [sorted(each, key=lambda h: -h.score)[:beam] for each in found]


def _device(state: Any) -> torch.device:
    if isinstance(state, Tensor):
        return state.device
    parts = state.values() if isinstance(state, dict) else state
    return next(_device(part) for part in parts if batch_size(part) is not None)
