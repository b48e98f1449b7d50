"""Go for Gymnasium: its checker, rewards and masks in games made by hand, and what is refused."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlab.envs.go.boards import Boards, Setting, point_of
from rlab.envs.go.env import Go
from rlab.envs.go.ids import SIZES, default_komi, go_size
from rlab.envs.go.match import COLOURS, observations
from rlab.envs.go.picture import SIDE, STONES, picture, stars, text
from rlab.envs.go.planes import PLANES
from rlab.envs.go.players import PLAYERS, RESIGN, RandomPlayer
from rlab.errors import RlabError
from tests.envs.go import naive

PASS = 25


def plays(*names: str, then: int = PASS) -> Any:
    """An opponent on 5x5 that makes these moves, then others of one kind."""
    moves = [point_of(name, 5) for name in names]

    def scripted(boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return np.array([moves.pop(0) if moves else then])

    return scripted


def begun(**options: Any) -> Go:
    env = Go(**{"size": 5, **options})
    env.reset(seed=0)
    return env


def step(env: Go, *names: str) -> Any:
    """The last of these moves' results."""
    for name in names:
        result = env.step(point_of(name, env.matches.boards.size))
    return result


def picked(env: Go, *names: str) -> list[int]:
    mask = env._info()["action_mask"]
    return [int(mask[point_of(name, 5)]) for name in names]


# ---- What Gymnasium asks.


@pytest.mark.parametrize("size", SIZES)
def test_ids_give_boards_of_their_size(size: int) -> None:
    env = gym.make(f"rlab/Go{size}-v0")
    assert env.observation_space.shape == (len(PLANES), size, size)
    assert env.observation_space.dtype == np.float32
    assert env.action_space == gym.spaces.Discrete(size * size + 1)
    assert (go_size(f"Go{size}"), go_size(f"rlab/Go{size}-v0")) == (size, size)
    env.close()


@pytest.mark.parametrize("name", ["Go", "Go8", "go9", "Go9-v0", "rlab/Go9", "xGo9", "Go9\n", ""])
def test_other_names_are_no_go(name: str) -> None:
    assert go_size(name) is None


@pytest.mark.parametrize(
    ("name", "options"), [("Go5", {}), ("Go13", {"colour": "white"}), ("Go19", {"colour": "random", "ko": "simple"})]
)
def test_gymnasiums_checker_has_nothing_to_say(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # it looks at all render modes, a window among them
    monkeypatch.setattr("rlab.envs.go.env.FPS", 1_000)
    env = gym.make(f"rlab/{name}-v0", **options).unwrapped
    env.action_space.seed(0)  # it knows no masks, and what it draws may be taken by the opponent
    check_env(env)


def test_a_game_through_gym_make_is_the_games_own() -> None:
    wrapped, own = gym.make("rlab/Go5-v0", colour="white"), Go(5, colour="white")
    for env in (wrapped, own):
        env.action_space.seed(3)
    obs, info = wrapped.reset(seed=3)
    mine, told = own.reset(seed=3)
    over = False
    while not over:
        np.testing.assert_array_equal(obs, mine)
        np.testing.assert_array_equal(info["action_mask"], told["action_mask"])
        action = own.action_space.sample(told["action_mask"])
        obs, reward, over, cut, info = wrapped.step(action)
        mine, *rest, told = own.step(action)
        assert rest == [reward, over, cut]
    assert not cut
    assert reward in (-1, 1)


# ---- Rewards and planes, from the agent's side.


@pytest.mark.parametrize(
    ("colour", "komi", "reward"),
    [
        ("black", 24.5, -1),
        ("white", 24.5, 1),
        ("black", -3.0, 1),
        ("white", -3.0, -1),
        ("black", 0.0, 0),
        ("white", 0.0, 0),
    ],
)
def test_an_empty_board_is_won_by_komi(colour: str, komi: float, reward: int) -> None:
    env = begun(colour=colour, komi=komi, opponent=plays())
    obs, got, over, cut, info = env.step(PASS)
    assert (got, over, cut) == (reward, True, False)
    assert info["score"] == (-komi if colour == "black" else komi)
    assert info["colour"] == colour
    assert not info["resigned"]
    assert not info["action_mask"].any()
    # The last planes are the agent's, too: White has the komi.
    assert obs[-1, 0, 0] == pytest.approx((komi if colour == "white" else -komi) / 15)


@pytest.mark.parametrize(("komi", "reward"), [(24.5, 1), (25.0, 0), (25.5, -1)])
def test_a_stone_alone_has_the_board(komi: float, reward: int) -> None:
    env = begun(komi=komi, opponent=plays())
    assert step(env, "C3")[1:3] == (0.0, False)
    _, got, over, _, info = env.step(PASS)
    assert (got, over, info["score"]) == (reward, True, 25 - komi)


def test_white_that_captures_wins() -> None:
    # Black puts one stone into the corner and passes; White takes it and has all.
    env = begun(colour="white", komi=-20.0, opponent=plays("A1"))
    assert step(env, "A2")[1] == 0
    assert step(env, "B1")[1] == 0
    assert picked(env, "A1") == [1]
    _, reward, over, _, info = env.step(PASS)
    assert (reward, over, info["score"]) == (1, True, 25 - 20)


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(2, 5),
    colour=st.sampled_from(COLOURS),
    komi=st.integers(-20, 20),
    cap=st.integers(2, 40),
    seed=st.integers(0, 2**31),
)
def test_a_game_pays_what_the_letter_of_the_rules_counts(
    size: int, colour: str, komi: int, cap: int, seed: int
) -> None:
    env = Go(size, colour=colour, komi=komi / 2, cap=cap)
    obs, info = env.reset(seed=seed)
    chance = np.random.default_rng(seed)
    over = False
    while not over:
        me = 1 + (info["colour"] == "white")
        stones = env.matches.boards.stones()[0]
        np.testing.assert_array_equal(obs[0], stones == me)
        np.testing.assert_array_equal(obs[1], stones == 3 - me)
        np.testing.assert_array_equal(info["action_mask"][:-1], ((stones == 0) & (obs[14] == 0)).ravel())
        assert obs in env.observation_space
        obs, reward, over, _, info = env.step(chance.choice(np.flatnonzero(info["action_mask"])))
        assert over or reward == 0
    black = naive.score(tuple(env.matches.boards.stones()[0].ravel().tolist()), size) - komi / 2
    assert info["score"] == (black if me == 1 else -black)
    assert reward == np.sign(info["score"])
    np.testing.assert_array_equal(obs[0], env.matches.boards.stones()[0] == me)


def test_the_cap_ends_a_game_and_it_is_counted() -> None:
    env = begun(cap=2, komi=0.5, opponent=plays("C3"))
    _, reward, over, cut, info = step(env, "A1")
    assert (reward, over, cut, info["score"]) == (-1, True, False, -0.5)  # one stone each, and the rest nobody's


@pytest.mark.parametrize(("colour", "cap"), [("black", 3), ("white", 2)])
def test_the_agents_own_move_may_be_the_last(colour: str, cap: int) -> None:
    env = begun(cap=cap, colour=colour, komi=0.5, opponent=plays("C3"))
    result = step(env, "A1", "A2") if colour == "black" else step(env, "A1")
    assert result[1:3] == (1.0, True)


def test_an_opponent_that_gives_up_has_lost() -> None:
    env = begun(opponent=plays("C3", then=RESIGN))
    assert step(env, "A1")[2] is False
    _, reward, over, _, info = step(env, "A2")
    assert (reward, over, info["resigned"]) == (1, True, True)
    assert not info["action_mask"].any()


# ---- Masks.


@pytest.mark.parametrize(("ko", "word"), [("positional", "superko"), ("situational", "superko"), ("simple", ": ko")])
def test_ko_is_in_the_mask_of_an_episode(ko: str, word: str) -> None:
    # Black: B5 A4 B3 around B4; White: C5 D4 C3 around C4; White B4 is taken by Black C4.
    env = begun(colour="white", ko=ko, opponent=plays("B5", "A4", "B3", "E1", "C4", "E2"))
    step(env, "C5", "D4", "C3", "B4")
    stones = env.matches.boards.stones()[0]
    assert (stones[1, 1], stones[1, 2]) == (0, 1)  # taken
    assert picked(env, "B4", "A1") == [0, 1]
    with pytest.raises(RlabError, match=f"not legal: .*{word}"):
        step(env, "B4")
    step(env, "A1")  # elsewhere; Black answers E2
    assert picked(env, "B4") == [1]
    obs, *_ = step(env, "B4")
    assert obs[0, 1, 1] == 1


def test_an_illegal_action_says_why_and_alters_nothing() -> None:
    env = begun(colour="white", opponent=plays("C3", "C2", "C1", "B3"))
    step(env, "A1", "A2")
    before = {name: array.copy() for name, array in env.matches.state().items()}
    for action, words in [
        (12, "action 12 in game 0 is not legal: there is a stone on C3"),
        (26, "26 is no point of a 5x5 board"),
        (-1, "-1 is no point"),
        (2.5, "an action is a whole number from 0 to 25, which is the pass, not 2.5"),
        (None, "not None"),
        ("C3", "not 'C3'"),
        (np.array([1, 2]), "a whole number"),
    ]:
        with pytest.raises(RlabError, match=words):
            env.step(action)
        for name, array in env.matches.state().items():
            np.testing.assert_array_equal(array, before[name])
    for action in (np.int64(20 - 1), np.array(4), np.array([3])):  # all of these are whole numbers
        assert not env.step(action)[2]


def test_suicide_is_as_the_rules_say() -> None:
    for suicide in (False, True):
        env = begun(colour="white", suicide=suicide, ko="simple", opponent=plays("A2", "B1"))
        step(env, "E5")
        assert picked(env, "A1") == [suicide]


# ---- Out of turn, seeds, colours.


def test_calls_out_of_turn_are_refused() -> None:
    env = Go(5, opponent=plays(), render_mode="ansi")
    with pytest.raises(RlabError, match=r"call reset\(\) first"):
        env.step(0)
    with pytest.raises(RlabError, match=r"call reset\(\) first"):
        env.render()
    with pytest.raises(RlabError, match=r"takes no options here, but got .'komi'"):
        env.reset(options={"komi": 3})
    env.reset()
    assert env.step(PASS)[2]
    with pytest.raises(RlabError, match=r"the game is over, so call reset\(\)"):
        env.step(0)
    assert "white wins by 24.5" in env.render()  # still to be seen
    env.reset()
    assert not Go.step(env, 0)[2]
    env.close()
    env.close()
    with pytest.raises(RlabError, match="closed"):
        env.step(1)


def whole_game(env: Go, seed: int | None) -> list[Any]:
    obs, info = env.reset(seed=seed)
    seen: list[Any] = [obs.tobytes()]
    over = False
    while not over:
        obs, reward, over, _, info = env.step(int(np.flatnonzero(info["action_mask"])[0]))
        seen += [obs.tobytes(), reward, info["colour"]]
    return seen


def test_a_seed_decides_everything() -> None:
    env, other = Go(5, colour="random"), Go(5, colour="random")
    games = [whole_game(env, seed) for seed in (4, None, None)]
    assert games == [whole_game(other, seed) for seed in (4, None, None)]
    assert games[0] != games[1]
    assert games[0] == whole_game(env, 4)
    assert games[0] != whole_game(env, 5)


def test_colours() -> None:
    def colours(kind: str) -> str:
        env = Go(2, colour=kind)
        return "".join(env.reset(seed=1 if not k else None)[1]["colour"][0] for k in range(40))

    assert colours("black") == "b" * 40
    assert colours("white") == "w" * 40
    assert colours("alternate") == "bw" * 20
    drawn = colours("random")
    assert 8 < drawn.count("b") < 32
    assert drawn not in ("bw" * 20, "wb" * 20)


# ---- Opponents.


def test_a_player_or_a_function_or_a_name() -> None:
    class Mine:
        name = "mine"
        closed = False

        def choose(self, boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
            return np.full(len(rows), PASS)

        def close(self) -> None:
            Mine.closed = True

    env = begun(opponent=Mine())
    assert env.step(0)[2] is False
    env.close()
    assert not Mine.closed  # whoever made it may play on with it
    PLAYERS.register("test-mine")(lambda rest: Mine())
    named = begun(opponent="test-mine")
    named.close()
    assert Mine.closed  # this one was the environment's
    same = [whole_game(Go(5, opponent=RandomPlayer()), 1), whole_game(Go(5, opponent=RandomPlayer().choose), 1)]
    assert same == [whole_game(Go(5), 1)] * 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.array([0]), "'bad' made no legal move: game 0: there is a stone on A5"),
        (np.array([26]), "26 is no point"),
        (np.array([-2]), "-2 is no point"),
        (np.array([1.0]), "owes integers of shape .1,., but gave float64"),
        (np.array([1, 2]), "owes integers of shape .1,., but gave int64 of .2,."),
        (None, "owes integers"),
    ],
)
def test_an_opponent_that_fails_is_named(answer: Any, words: str) -> None:
    def bad(boards: Boards, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> Any:
        return answer

    env = begun(opponent=bad)
    with pytest.raises(RlabError, match=words):
        env.step(0)
    with pytest.raises(RlabError, match=r"the opponent failed, so call reset\(\)"):
        env.step(1)
    assert env.reset()[1]["action_mask"].all()


def test_an_opponent_cannot_give_up_before_it_begins() -> None:
    env = Go(5, colour="white", opponent=plays(then=RESIGN))
    with pytest.raises(RlabError, match="gave up before its first move"):
        env.reset()
    with pytest.raises(RlabError, match="out of turn"):
        env.step(0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 1}, "2 to 19 wide, not 1"),
        ({"size": 20}, "2 to 19 wide, not 20"),
        ({"opponent": "randm"}, "there is no player or run 'randm'; .*random"),
        ({"opponent": 7}, "an opponent is a name such as random, .* not 7"),
        ({"opponent": None}, "not None"),
        ({"opponent": RandomPlayer}, "not <class"),
        ({"colour": "red"}, "unknown colour 'red'"),
        ({"komi": 7.3}, "komi is 7.3"),
        ({"komi": float("nan")}, "komi is nan"),
        ({"ko": "super"}, "no ko rule 'super'"),
        ({"cap": 1}, "cap is 1; it must be 2 or more"),
        ({"cap": -1}, "not -1"),
        ({"render_mode": "rgb"}, "unknown render mode 'rgb'; nearest: rgb_array"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RlabError, match=words):
        Go(**options)


def test_komi_is_fair_by_size() -> None:
    assert [default_komi(size) for size in (2, 3, 5, 6, 7, 8, 9, 13, 19)] == [0, 0, 24.5, 7, 9, 7, 7, 7, 7]
    assert Go(9).matches.boards.setting == Setting()
    assert Go(5).matches.boards.setting.komi == 24.5
    assert observations(9).high[-1, 0, 0] >= 400 / 15  # every komi that may be


# ---- Pictures.


def test_the_board_as_text() -> None:
    env = begun(opponent=plays("D2"), render_mode="ansi", komi=6.5)
    assert "    A B C D E\n  5 . . . . . 5\n  4 . . . . . 4\n  3 . . + . . 3\n" in env.render()
    step(env, "B4")
    assert env.render() == (
        "    A B C D E\n"
        "  5 . . . . . 5\n"
        "  4 . X . . . 4\n"
        "  3 . . + . . 3\n"
        "  2 . . .(O). 2\n"
        "  1 . . . . . 1\n"
        "    A B C D E\n"
        "black to move; 2 moves, komi 6.5\n"
    )
    boards = Boards(1, Setting(2, komi=0.0))
    boards.play([4])
    assert text(boards).endswith("white to move, after a pass; 1 moves, komi 0\n")
    boards.play([4])
    assert text(boards).endswith("jigo; 2 moves, komi 0\n")


@pytest.mark.parametrize(("size", "number"), [(2, 0), (5, 1), (7, 5), (9, 5), (13, 5), (19, 9)])
def test_star_points_are_alike_on_all_sides(size: int, number: int) -> None:
    found = stars(size)
    assert len(found) == number
    assert {(x, size - 1 - y) for y, x in found} == found


@pytest.mark.parametrize("size", [2, 9, 19])
def test_a_picture_shows_the_stones(size: int) -> None:
    boards = Boards(2, Setting(size, komi=0.5))
    empty = picture(boards)
    assert (empty.shape, empty.dtype) == ((SIDE, SIDE, 3), np.uint8)
    boards.play([-1, 0])
    boards.play([-1, size + 1])
    boards.play([-1, size * size])
    shown = picture(boards, 1)
    cell = SIDE / (size + 1.4)
    first, second = ((SIDE - cell * (size - 1)) / 2 + k * cell for k in range(2))
    assert tuple(shown[round(first), round(first)]) == STONES[0]  # no mark: the last move was a pass
    assert tuple(shown[round(second), round(second)]) == STONES[1]
    np.testing.assert_array_equal(picture(boards, 0), empty)


def test_render_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RlabError, match="no picture without"):
        begun().render()
    env = begun(render_mode="rgb_array")
    assert env.render().shape == (SIDE, SIDE, 3)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr("rlab.envs.go.env.FPS", 1_000)
    window = begun(render_mode="human", opponent=plays())
    assert window.render() is None
    window.step(0)
    window.close()
    monkeypatch.setenv("SDL_VIDEODRIVER", "nothing-such")
    with pytest.raises(RlabError, match="no display for a window"):
        begun(render_mode="human")
