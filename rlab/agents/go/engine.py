"""One object that takes moves and gives analysis: what the protocol, a board in a terminal and a record's judge use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rlab.agents.go.analysis import Analysis, Analyst, Avoided, last_of, never, tell
from rlab.agents.go.rollouts import Rollouts
from rlab.envs.go.boards import Boards, Setting, name_of
from rlab.envs.go.players import RESIGN, Player, home_size
from rlab.envs.go.rules import BLACK, COUNT, EMPTY, KO, PASSES, WHITE
from rlab.envs.go.sgf import RULES, Record, alternate, begin, follow
from rlab.envs.splitmix import rng_key
from rlab.errors import RlabError

COLOURS = ("", "black", "white")
JUDGE_VISITS = 1_000
"""Of the analyses that say which stones are dead, or random games."""

UNCLEAR = 0.1
"""Ownership, from -1 to 1, that says nothing: stones of so little of the other's live."""


def move_key(seed: int, number: int) -> NDArray[np.uint64]:
    """The RNG key [1] of a move of a game."""
    return rng_key([seed % 2**32], number + 1)


class Engine:
    """A game, and a player who can be asked for a move or an analysis at any time and of either colour.

    Moves need not alternate, and a game goes on after two passes: see `alternate`. Superko is that of all positions.

    Args:
        player: whom to ask. If it has `analyse`, it is an `Analyst`.
        setting: of the game. A longer game gets a larger cap.
        seed: of the player's chance; with it and the moves, an answer is the same again.
        visits: of the analysis by which a move is chosen; 0: the player's own way of choosing.
        resign: an analysis below this win rate gives the game up.
        judge: visits by which dead stones are told.

    Attributes:
        boards: the game, row 0.
        moves: (colour, point).
        comments: number of moves made -> what is said of that position, for `record`.
    """

    def __init__(
        self,
        player: Player,
        setting: Setting | None = None,
        *,
        seed: int = 0,
        visits: int = 0,
        resign: float = 0.0,
        judge: int = JUDGE_VISITS,
    ):
        self.player, self.seed, self.visits, self.resign, self.judge = player, seed, visits, resign, judge
        self.analyst: Analyst | None = cast(Analyst, player) if hasattr(player, "analyse") else None
        self.moves: list[tuple[int, int]] = []
        self.comments: dict[int, str] = {}
        self.set_up(setting or Setting(home_size(player)))

    # ---- The game.

    def set_up(self, setting: Setting) -> None:
        """A new game of this setting.

        Raises:
            RlabError: the player does not play on boards of this size.
        """
        sizes = getattr(self.player, "sizes", None)  # of a network that is for some sizes only
        if sizes is not None and setting.size not in sizes:
            known = ", ".join(map(str, sorted(sizes)))
            raise RlabError(f"{self.player.name} plays on boards of {known}, not of {setting.size}")
        self._cap = setting.cap
        self.boards = Boards(1, setting, threads=1)
        self.clear()

    def change(self, setting: Setting) -> None:
        """The same game under another komi or other rules; if its moves are not legal under these, nothing changes."""
        before = self.boards
        self._rebuild(setting)
        try:
            follow(self.boards, 0, self.moves)
        except RlabError:
            self.boards = before
            raise

    def clear(self) -> None:
        """A new game on the empty board."""
        self.moves.clear()
        self.comments.clear()
        self.handicap = 0
        if self.boards.setting.cap != self._cap:
            self.boards = Boards(1, replace(self.boards.setting, cap=self._cap), threads=1)
        self.boards.clear()

    def arrange(self, stones: Sequence[int] | NDArray[np.uint8], turn: int, handicap: int = 0) -> None:
        """A new game from stones [n * n] of 0, 1, 2 and who is to move.

        Raises:
            RlabError: a chain has no liberty; there is a new game on the empty board then.
        """
        self.clear()
        begin(self.boards, 0, stones, turn)
        self.handicap = handicap

    def play(self, colour: int, point: int) -> None:
        """A move.

        Raises:
            RlabError: it is not legal; the game is as before.
        """
        self.moves.append((colour, point))
        try:
            self._follow()
        except RlabError:
            self.moves.pop()
            self._follow()
            # The same sentence without its number, which people who play do not count.
            boards = self.board_of(colour)
            why = boards.why_not(0, point) or "it is not legal"
            raise RlabError(f"{COLOURS[colour]} cannot play {name_of(point, self.size)}: {why}") from None

    def undo(self, moves: int = 1) -> None:
        """Take back moves.

        Raises:
            RlabError: there are not so many.
        """
        if not 0 <= moves <= len(self.moves):
            raise RlabError(f"{len(self.moves)} moves were made, so {moves} cannot be taken back")
        del self.moves[len(self.moves) - moves :]
        self._follow()

    @property
    def size(self) -> int:
        """Rows and columns."""
        return self.boards.size

    @property
    def setting(self) -> Setting:
        """What is agreed."""
        return self.boards.setting

    @property
    def turn(self) -> int:
        """Whose turn it is after the last move: 1 black, 2 white."""
        return 3 - self.moves[-1][0] if self.moves else int(self.boards.starts[0, -1])

    @property
    def thinking(self) -> int:
        """Visits of an analysis for which nothing else is said: the engine's, else the player's own, else 400."""
        return self.visits or int(getattr(self.player, "visits", 400))

    @property
    def over(self) -> bool:
        """After two passes in a row."""
        return bool(self.boards.over[0])

    def board_of(self, colour: int) -> Boards:
        """The game, row 0, with this colour to move and not over; made anew if it is not so."""
        if self.boards.turn[0] == colour and not self.over:
            return self.boards
        pass_ = self.boards.pass_
        moves = list(self.moves)
        while moves and moves[-1][1] == pass_:
            moves.pop()
        start = self.boards.starts[0]
        other = Boards(1, self.boards.setting, threads=1)
        begin(other, 0, start[:-1], int(start[-1]))
        follow(other, 0, moves)
        if other.turn[0] != colour:
            other.play([pass_])
            other.games.cells[0, COUNT, PASSES] = 0  # nobody passed: another pass would not end the game
        elif len(moves) < len(self.moves):
            other.games.cells[0, COUNT, KO] = 0  # after passes a stone may be taken back
        return other

    def record(self, **texts: str) -> Record:
        """The game as a record; texts are its names, result and date."""
        start = self.boards.starts[0]
        agreed = {"ko": self.setting.ko, "suicide": self.setting.suicide}
        usual = RULES["chinese-superko"]
        rules = "" if agreed == usual else next((name for name, rules in RULES.items() if rules == agreed), "")
        return Record(
            rules=rules,
            size=self.size,
            komi=self.setting.komi,
            moves=tuple(self.moves),
            stones=tuple(start[:-1].tolist()) if start[:-1].any() else (),
            turn=int(start[-1]),
            handicap=self.handicap,
            comments=dict(self.comments),
            **texts,
        )

    def load(self, record: Record, moves: int | None = None) -> None:
        """The game of a record after so many of its moves (None: all), under its rules.

        Raises:
            RlabError: it cannot be played here; the game is as before.
        """
        before = self.boards, list(self.moves), dict(self.comments), self.handicap, self._cap
        try:
            self.set_up(replace(record.setting(), cap=0))
            begin(self.boards, 0, record.stones, record.turn)
            self.handicap = record.handicap
            self.moves[:] = record.moves[:moves]
            self._follow()
        except RlabError:
            self.boards, self.moves, self.comments, self.handicap, self._cap = before
            raise

    # ---- What is thought.

    def choose(
        self,
        colour: int,
        *,
        visits: int = 0,
        stop: Callable[[], bool] = never,
        on_analysis: Callable[[Analysis], None] | None = None,
        avoided: Sequence[Avoided] = (),
    ) -> int:
        """A move for a colour, which is not made; or `RESIGN`.

        Args:
            colour: who is to move; the other one passes before if it is its turn.
            visits: of the analysis; 0: the engine's, and with 0 there too the player's own way of choosing.
            stop: ends an analysis early.
            on_analysis: is given every analysis on the way, which the move then comes from, if the player makes any.
            avoided: moves that the analysis leaves out.

        Raises:
            RlabError: the player failed, its move is not legal, or moves are to be left out and it has no analysis.
        """
        boards = self.board_of(colour)
        visits = visits or self.visits
        if not visits and (on_analysis is not None or avoided):
            visits = self.thinking
        if (self.analyst is not None and visits) or avoided:
            analyses = self.analyse(colour, visits, stop, avoided)
            last = last_of(analyses if on_analysis is None else tell(analyses, on_analysis))
            point = RESIGN if last.winrate < self.resign else last.candidates[0].point
        else:
            point = int(self.player.choose(boards, np.zeros(1, np.int64), move_key(self.seed, len(self.moves)))[0])
        if point != RESIGN:
            why = boards.why_not(0, point)
            if why:
                raise RlabError(f"{self.player.name} chose {point}, which is not legal: {why}")
        return point

    def analyse(
        self, colour: int, visits: int, stop: Callable[[], bool] = never, avoided: Sequence[Avoided] = ()
    ) -> Iterator[Analysis]:
        """What the player thinks if it were this colour's turn; see `Analyst`.

        Raises:
            RlabError: it gives no analysis, or no move is left that could be analysed.
        """
        if self.analyst is None:
            raise RlabError(f"{self.player.name} gives moves, but no analysis")
        board = self.board_of(colour)
        if not avoided:
            return self.analyst.analyse(board, 0, visits, stop)
        out = {point for one in avoided if one.colour == colour and one.depth > 0 for point in one.points}
        if out >= set(np.flatnonzero(board.legal()[0]).tolist()):
            raise RlabError(f"no legal move of {COLOURS[colour]} is left to be analysed")
        return self.analyst.analyse(board, 0, visits, stop, avoided)

    def dead(self) -> list[list[int]]:
        """Chains of stones, as lists of points, whose points will be the other's.

        A chain is dead if over its stones the ownership is on the other's side; see `owners`.
        """
        black = self.owners().ravel()
        stones = self.boards.stones()[0].ravel()
        return [chain for chain in chains(stones.reshape(self.size, self.size))
                if float(black[chain].mean()) * (1 if stones[chain[0]] == BLACK else -1) < -UNCLEAR]  # fmt: skip

    def owners(self) -> NDArray[np.float64]:
        """[n, n] whose each point will be, 1: Black's, -1: White's, as the mean of either being to move.

        By the player's own analysis, or by random games if it does not know ownership.
        """
        black = np.zeros((self.size, self.size))
        for colour in (BLACK, WHITE):
            board = self.board_of(colour)
            black += self._owners(board) * (0.5 if board.turn[0] == BLACK else -0.5)
        return black

    @property
    def knows_owners(self) -> bool:
        """Whether the player's analysis has an ownership; else dead stones are told by random games."""
        if self.analyst is None:
            return False
        return last_of(self.analyst.analyse(self.board_of(self.turn), 0, 1, never)).ownership is not None

    def _owners(self, board: Boards) -> NDArray[np.float64]:
        """[n, n], 1: the point will be the player's to move."""
        analyst: Analyst = cast(Analyst, self.analyst) if self.knows_owners else Rollouts()
        ownership = last_of(analyst.analyse(board, 0, max(1, self.judge // 2), never)).ownership
        assert ownership is not None
        return ownership

    def score(self, dead: Sequence[Sequence[int]] = ()) -> float:
        """Black's area less White's and komi, these chains taken off the board."""
        if not dead:
            return float(self.boards.score()[0])
        stones = self.boards.stones()[0].ravel()
        for chain in dead:
            stones[list(chain)] = EMPTY
        settled = Boards(1, self.setting, threads=1)
        begin(settled, 0, stones, BLACK)
        return float(settled.score()[0])

    def close(self) -> None:
        """Let the player go."""
        self.player.close()

    def _follow(self) -> None:
        """Bring the boards to the moves; a game near its cap gets a larger one, which playing to the end needs."""
        made = sum(1 for _ in alternate(self.moves, int(self.boards.starts[0, -1]), self.boards.pass_))
        if 3 * made > 2 * self.setting.most and self.setting.most < 30_000:
            self._rebuild(replace(self.setting, cap=min(30_000, 3 * made)))
        follow(self.boards, 0, self.moves)

    def _rebuild(self, setting: Setting) -> None:
        start = self.boards.starts[0].copy()
        self.boards = Boards(1, setting, threads=1)
        begin(self.boards, 0, start[:-1], int(start[-1]))


def chains(stones: NDArray[np.uint8]) -> list[list[int]]:
    """The chains of a position [n, n], each as a sorted list of points."""
    size = len(stones)
    found: list[list[int]] = []
    left = {int(p) for p in np.flatnonzero(stones)}
    flat = stones.ravel()
    while left:
        todo = [min(left)]
        left.remove(todo[0])
        chain = []
        while todo:
            point = todo.pop()
            chain.append(point)
            y, x = divmod(point, size)
            for near_y, near_x in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                near = near_y * size + near_x
                if 0 <= near_y < size and 0 <= near_x < size and near in left and flat[near] == flat[point]:
                    left.remove(near)
                    todo.append(near)
        found.append(sorted(chain))
    return found


def score_text(score: float) -> str:
    """As protocols and records write it: B+3.5, W+2, or 0 for a draw."""
    return f"{'B' if score > 0 else 'W'}+{abs(score):g}" if score else "0"


# ---- A whole game judged.


@dataclass(frozen=True)
class Judged:
    """A move of a record.

    Attributes:
        number: from 1.
        colour: who moved.
        point: where; n * n is a pass.
        before: the win rate of who moved, before the move.
        after: of the same, after it.
        score_before: the lead in points of the same; None if it is not known.
        score_after: after the move.
        best: what the analysis would have played.
        variation: and what it expects then.
    """

    number: int
    colour: int
    point: int
    before: float
    after: float
    score_before: float | None
    score_after: float | None
    best: int
    variation: tuple[int, ...]

    @property
    def loss(self) -> float:
        """Win rate that the move gave away; 0 for what the analysis would have played itself."""
        return 0.0 if self.point == self.best else max(0.0, self.before - self.after)


def judge(engine: Engine, visits: int, stop: Callable[[], bool] = never) -> Iterator[Judged]:
    """Judge every move of the engine's game, in order; before the next one is asked for, the engine stands after it.

    The win rate after a move is that of the position which it leads to, analysed by itself with as many visits.

    Raises:
        RlabError: the player gives no analysis.
    """
    moves = list(engine.moves)
    engine.undo(len(moves))

    def think(colour: int) -> Analysis:
        return last_of(engine.analyse(colour, visits, stop))

    thought, of = None, EMPTY
    for number, (colour, point) in enumerate(moves, 1):
        if stop():
            return
        before = think(colour) if thought is None or of != colour else thought
        engine.play(colour, point)
        of = BLACK + WHITE - colour
        thought = think(of)
        yield Judged(
            number=number,
            colour=colour,
            point=point,
            before=before.winrate,
            after=1 - thought.winrate,
            score_before=before.score,
            score_after=None if thought.score is None else -thought.score,
            best=before.candidates[0].point,
            variation=before.candidates[0].variation,
        )
