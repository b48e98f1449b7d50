"""The network of Go: planes by hand, symmetries, and a fast evaluation that says what the network says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rlab.agents.go.config import NetConfig
from rlab.agents.go.evaluator import Evaluator
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.tree_game import GoGame
from rlab.envs.go.boards import Boards, Setting, point_of
from rlab.envs.go.planes import PLANES, planes_of
from rlab.envs.go.symmetry import inverses, move_planes, symmetries
from rlab.errors import RlabError
from rlab.kernels import THREADS


def shown(boards: Boards, name: str, row: int = 0) -> set[tuple[int, int]]:
    """Where a plane is not 0, as (line, column)."""
    return {(int(y), int(x)) for y, x in np.argwhere(planes_of(boards)[row, PLANES.index(name)])}


def played(size: int, *moves: str, **more: object) -> Boards:
    boards = Boards(1, Setting(size, **more))  # type: ignore[arg-type]
    for move in moves:
        boards.play([point_of(move, size)])
    return boards


def test_planes_by_hand() -> None:
    #   A B C D E   Black: A5 B5 C3, White: A4 B4 (Black's corner has one liberty, C5); black to move
    boards = played(5, "A5", "A4", "B5", "B4", "C3", "pass", komi=7.5)
    assert boards.turn[0] == 1
    assert shown(boards, "own stones") == {(0, 0), (0, 1), (2, 2)}
    assert shown(boards, "other stones") == {(1, 0), (1, 1)}
    assert len(shown(boards, "points of the board")) == 25
    assert shown(boards, "last move") == set()  # a pass
    assert shown(boards, "last move but 1") == {(2, 2)}
    assert shown(boards, "last move but 4") == {(1, 0)}
    assert shown(boards, "own chains with 1 liberty") == {(0, 0), (0, 1)}
    assert shown(boards, "other chains with 3 liberties") == {(1, 0), (1, 1)}  # A3, B3, C4
    assert shown(boards, "own chains with 3 liberties") == set()  # C3 has four
    assert len(shown(boards, "whether the last move was a pass")) == 25
    komi = planes_of(boards)[0, -1]
    assert (komi == np.float32(-0.5)).all()
    boards.play([point_of("C5", 5)])
    assert (planes_of(boards)[0, -1] == np.float32(0.5)).all()


def test_the_plane_of_what_is_not_legal_knows_superko() -> None:
    #   . X O .     White has taken C3 by B3: Black may not take back at once, and D4 would be suicide
    #   X O . O
    #   . X O .
    boards = played(4, "B4", "C4", "A3", "D3", "B2", "C2", "C3", "B3", komi=0)
    assert boards.stones()[0, 1, 2] == 0
    assert shown(boards, "empty points that are not legal") == {(1, 2), (0, 3)}


@pytest.mark.parametrize("size", [2, 5, 9])
def test_symmetries_are_a_group_and_commute_with_the_rules(size: int) -> None:
    """What is turned first and seen then is what is seen first and turned then."""
    turns = symmetries(size)
    assert len({tuple(row) for row in turns.tolist()}) == 8
    assert (turns[:, -1] == size * size).all()
    for turn, back in zip(turns, inverses(size), strict=True):
        assert (turn[back] == np.arange(size * size + 1)).all()
    chance = np.random.default_rng(size)
    boards = Boards(8, Setting(size))
    for _ in range(2 * size):
        weights = chance.random((1, size * size + 1)) * boards.legal()[:1]
        weights[:, -1] = 1e-9
        move = weights.argmax(1)[0]
        boards.play(turns[:, move])
    kinds = np.arange(8)
    original = np.repeat(planes_of(boards)[:1], 8, 0)
    assert (planes_of(boards) == move_planes(original, kinds)).all()


def odd_network(encoder: str, size: int, **more: bool) -> GoNetwork:
    """Whose normalisation is not the identity, so that it matters how it is folded."""
    torch.manual_seed(0)
    network = GoNetwork(NetConfig(encoder, **more), size)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 3)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    return network


def some_games(size: int, number: int, moves: int) -> Boards:
    boards, chance = Boards(number, Setting(size)), np.random.default_rng(moves)
    for _ in range(moves):
        weights = chance.random((number, size * size + 1)) * boards.legal()
        weights[:, -1] = 1e-9
        boards.play(weights.argmax(1))
    return boards


@pytest.mark.parametrize("encoder", ["mlp", "minatar"])
def test_an_encoder_without_a_map_of_the_board_is_refused(encoder: str) -> None:
    with pytest.raises(RlabError, match=f"encoder '{encoder}' has no maps of 5x5 for a 5x5 board; nearest: go-resnet"):
        GoNetwork(NetConfig(encoder), 5)


@pytest.mark.parametrize(
    ("encoder", "size"),
    [("go-resnet-2x32", 5), ("go-resnet-pool-3x32", 5), ("go-resnet-pool", 9), ("go-resnet-pool-3x32", 7),
     ("go-resnet-4x48", 5), ("resnet20", 5)],
)  # fmt: skip
def test_the_evaluation_says_what_the_network_says(encoder: str, size: int) -> None:
    """Read by the compiled loop, the first three, or by layers."""
    network = odd_network(encoder, size)
    assert network.training
    boards = some_games(size, 40, 6)
    seen = GoGame(boards.setting, 40).step(boards, np.arange(40), np.zeros((40, 1), np.int32), np.zeros(40, np.int32))
    rows, chance = np.arange(40), np.arange(40, dtype=np.uint64) * np.uint64(0x123456789ABCDEF)
    plain = Evaluator(network, symmetry="none", precision="fp32")
    assert network.training  # it was left as it is
    logits, values = plain(seen.positions, rows, chance)
    network.eval()
    planes = torch.from_numpy(planes_of(boards))
    with torch.no_grad():
        said = network(planes)
        turned = [network(torch.from_numpy(move_planes(planes.numpy(), np.full(40, k)))) for k in range(8)]
    np.testing.assert_allclose(logits, said.policy.numpy(), atol=2e-4)
    np.testing.assert_allclose(values, said.value.softmax(1).diff(dim=1)[:, 0].numpy(), atol=1e-4)
    mean = np.mean([one.policy.numpy()[:, symmetries(size)[k]] for k, one in enumerate(turned)], 0)
    logits, values = Evaluator(network, symmetry="all", precision="fp32")(seen.positions, rows, chance)
    np.testing.assert_allclose(logits, mean, atol=2e-4)
    single, _ = Evaluator(network, symmetry="random", precision="fp32")(seen.positions, rows, chance)
    options = np.stack([one.policy.numpy()[:, symmetries(size)[k]] for k, one in enumerate(turned)])
    kinds = np.abs(options - single).max(2).argmin(0)
    assert np.abs(options - single).max(2).min(0).max() < 2e-4
    assert len(set(kinds.tolist())) > 4
    with pytest.raises(RlabError, match="precision is 'half'; valid: auto, fp32, bf16"):
        Evaluator(network, precision="half")


@pytest.mark.parametrize("size", [5, 7])
@settings(max_examples=25, deadline=None)
@given(number=st.integers(1, 40), order=st.randoms())
def test_what_is_said_of_a_position_does_not_depend_on_the_batch(size: int, number: int, order: object) -> None:
    """To the bit: a search's rows must not know of each other. Compiled for 5x5, by layers for 7x7."""
    boards = some_games(size, 40, 5)
    seen = GoGame(boards.setting, 40).step(boards, np.arange(40), np.zeros((40, 1), np.int32), np.zeros(40, np.int32))
    chance = np.arange(40, dtype=np.uint64) << np.uint64(58)
    evaluate = Evaluator(NETWORK, precision="fp32")
    logits, values = evaluate(seen.positions, np.arange(40), chance)
    rows = list(range(40))
    order.shuffle(rows)  # type: ignore[attr-defined]
    some = np.array(rows[:number])
    again, value = evaluate(seen.positions, some, chance[some])
    assert (again == logits[some]).all()
    assert (value == values[some]).all()


NETWORK = odd_network("go-resnet-pool-3x32", 5)


def test_a_network_of_one_size_is_asked_about_another() -> None:
    """Its encoder is convolutions only; so are its heads."""
    boards, rows = some_games(7, 9, 6), np.arange(9)
    seen = GoGame(boards.setting, 9).step(boards, rows, np.zeros((9, 1), np.int32), np.zeros(9, np.int32))
    logits, values = Evaluator(NETWORK, symmetry="none", precision="fp32")(seen.positions, rows, np.zeros(9, np.uint64))
    NETWORK.eval()
    with torch.no_grad():
        said = NETWORK(torch.from_numpy(planes_of(boards)))
    np.testing.assert_allclose(logits, said.policy.numpy(), atol=2e-4)
    np.testing.assert_allclose(values, said.value.softmax(1).diff(dim=1)[:, 0].numpy(), atol=1e-4)


def test_no_position_and_more_than_are_held_at_once() -> None:
    boards = some_games(5, 600, 3)
    rows = np.arange(600)
    seen = GoGame(boards.setting, 600).step(boards, rows, np.zeros((600, 1), np.int32), np.zeros(600, np.int32))
    evaluate = Evaluator(NETWORK, symmetry="none", precision="fp32")
    chance = np.zeros(600, np.uint64)
    logits, values = evaluate(seen.positions, rows[:0], chance[:0])
    assert logits.shape == (0, 26)
    assert values.shape == (0,)
    before = THREADS.number
    THREADS.use(1)
    try:
        logits, values = evaluate(seen.positions, rows, chance)
    finally:
        THREADS.use(before)
    few, some = evaluate(seen.positions, rows[550:], chance[550:])
    assert (few == logits[550:]).all()
    assert (some == values[550:]).all()
