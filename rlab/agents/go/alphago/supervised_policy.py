"""AlphaGo's first part: a policy that learns to say the next move of game records (Silver et al. 2016, section 1)."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from rlab.agents.go.alphago.config import GamesConfig, RecordsExperiment
from rlab.agents.go.learning import value_loss
from rlab.agents.go.network import GoNetwork
from rlab.agents.go.position_buffer import PositionWindow, empty_rows
from rlab.agents.go.search_player import NetworkPolicy
from rlab.data.batches import Batch
from rlab.data.files import reader
from rlab.data.readers import READERS, Arrays, Read
from rlab.envs.go.boards import Boards, Setting, name_of
from rlab.envs.go.planes import PLANES
from rlab.envs.go.sgf import alternate, parse_sgf
from rlab.errors import RlabError
from rlab.nn.optim import decayed, make_optimiser
from rlab.run.contract import Stop
from rlab.seeding import derive
from rlab.stats import wilson
from rlab.tasks.task import Losses, Metric, SingleLossTask, until
from rlab.tasks.trainer import Trainer

CHUNK = 512
"""Positions of an evaluation that are looked at together."""
APART = 8
"""Moves between two positions of a data set, as those of a game look much alike."""
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class RecordedGames:
    """Positions of game records, and which of them are for what.

    Attributes:
        name: of the data set.
        window: all positions.
        splits: name -> positions int64 [n]; a game is in one of them as a whole.
        refused: games that were left out, as they break the rules or are not played on the board.
    """

    name: str
    window: PositionWindow
    splits: dict[str, NDArray[np.int64]]
    refused: int


def read_games(config: GamesConfig, size: int = 9) -> RecordedGames:
    """Read a data set of records; the rules are those that most programs play by, simple ko.

    Raises:
        RlabError: the data set cannot be had, or holds no game of this size.
    """
    return _games(_records(config.data), config, size)


@READERS.register("go-next-moves")
def next_moves(read: Read) -> Arrays:
    """The next moves of a data set of records as classes of images: of one position in eight, seen by its player.

    Test positions are those of the games that `read_games` keeps for tests; all others are of other games. Validation
    positions are drawn from what is left, so they may be of games that are learned from, eight moves apart or more.
    Images are the planes of 0 and 1, so without the one of komi.
    """
    size = 9
    games = _games(_parsed(read), GamesConfig(), size)
    rows = np.arange(0, games.window.end, APART)
    x, y = np.empty((len(rows), len(PLANES) - 1, size, size), np.uint8), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), CHUNK):
        some = slice(start, start + CHUNK)
        batch = batch_of(games.window, rows[some], np.zeros(len(rows[some]), np.int64), torch.device("cpu"))
        x[some], y[some] = 255 * batch.x[:, :-1].numpy(), batch.y.numpy()
    classes = tuple(name_of(point, size) for point in range(size * size + 1))
    return Arrays(x, y, classes, test=np.flatnonzero(np.isin(rows, games.splits["test"])))


def _games(records: list[Any], config: GamesConfig, size: int) -> RecordedGames:
    setting = Setting(size, ko="simple", cap=4 * size * size)
    boards = Boards(1, setting, threads=1)
    kept: list[dict[str, NDArray[Any]]] = []
    for record in records:
        rows = _rows(record, boards)
        if rows is not None:
            kept.append(rows)
    if len(kept) < 3:
        raise RlabError(f"data set '{config.data}' has {len(kept)} games on {size}x{size}, too few to learn from")
    order = np.random.default_rng(derive(config.split_seed, "games")).permutation(len(kept))
    tests, held = max(1, round(config.test * len(kept))), round(config.validation * len(kept))
    parts = {"test": order[:tests], "validation": order[tests : tests + held], "train": order[tests + held :]}
    if config.games:
        parts["train"] = parts["train"][: config.games]
    window = PositionWindow(setting, sum(len(rows["move"]) for rows in kept))
    starts = []
    for rows in kept:
        starts.append(window.end)
        window.add(rows)
    splits = {
        name: np.concatenate([np.arange(starts[g], starts[g] + len(kept[g]["move"])) for g in parts[name]])
        for name in SPLITS
        if len(parts[name])
    }
    return RecordedGames(config.data, window, splits, len(records) - len(kept))


def _records(name: str) -> list[Any]:
    return _parsed(reader(name))


def _parsed(read: Read) -> list[Any]:
    """All records of a data set's archive."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(read("games.tar.xz"))) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                found.append(parse_sgf(file.read()))
    return found


def _rows(record: Any, boards: Boards) -> dict[str, NDArray[Any]] | None:
    """A game as rows of a window, up to a move that is not legal; None if it is of no use."""
    if record.size != boards.size or any(record.stones) or record.turn != 1:
        return None
    boards.clear()
    moves = []
    for _, point in alternate(record.moves, 1, boards.pass_):
        try:
            boards.play([point])
        except RlabError:
            break
        moves.append(point)
    if not moves:
        return None
    rows = empty_rows(len(moves), boards.size)
    rows["move"][:], rows["ply"][:] = moves, np.arange(len(moves))
    winner = {"B": 1.0, "W": -1.0}.get(record.result[:1].upper(), 0.0)
    rows["score"][:] = winner  # by how much is not always written
    return rows


class PositionBatches:
    """Shuffled batches of positions: a `rlab.data.batches.DataModule`."""

    def __init__(self, games: RecordedGames, batch: int, seed: int, device: str, symmetries: bool):
        self.games = games
        self.batch, self.seed, self.device, self.symmetries = batch, seed, torch.device(device), symmetries
        self._rows = games.splits["train"]
        self._order: tuple[int, NDArray[np.int64]] = (-1, self._rows)

    def __len__(self) -> int:
        return -(-len(self._rows) // self.batch)

    @property
    def splits(self) -> dict[str, Tensor]:
        """Name -> positions, int64[n]."""
        return {name: torch.from_numpy(rows) for name, rows in self.games.splits.items()}

    @property
    def examples(self) -> int:
        """Of an epoch."""
        return len(self._rows)

    def at(self, epoch: int, number: int, rank: int = 0, world: int = 1) -> Batch:
        """One batch, or a part of it: planes, moves, and which positions; it depends on the seed and numbers alone."""
        known, order = self._order
        if known != epoch:
            order = np.random.default_rng(derive(self.seed, "order", epoch)).permutation(self._rows)
            self._order = epoch, order
        rows = order[number * self.batch : (number + 1) * self.batch]
        kinds = np.zeros(len(rows), np.int64)
        if self.symmetries:
            kinds = np.random.default_rng(derive(self.seed, "kinds", epoch, number)).integers(0, 8, len(rows))
        mine = slice(rank, None, world)
        return batch_of(self.games.window, rows[mine], kinds[mine], self.device, (epoch, number))

    def ordered(self, split: str, batch: int) -> Iterator[Batch]:
        """The positions of a split in batches, not turned."""
        rows = self.games.splits[split]
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            yield batch_of(self.games.window, some, np.zeros(len(some), np.int64), self.device)


def batch_of(
    window: PositionWindow,
    rows: NDArray[np.int64],
    kinds: NDArray[np.int64],
    device: torch.device,
    place: tuple[int, int] = (0, 0),
) -> Batch:
    """Positions rows [B], turned by kinds [B]: planes [B, C, n, n], moves [B]."""
    n = window.setting.size
    sample = window.take(rows, kinds)
    planes = torch.from_numpy(sample.planes).view(-1, n, n, len(PLANES)).permute(0, 3, 1, 2)
    tensors = {"x": planes.to(device), "y": torch.from_numpy(sample.move).to(device)}
    return Batch(tensors, torch.from_numpy(rows), place)


class PolicyTask(SingleLossTask):
    """The task of a policy: the next move, and a little of who wins.

    Args:
        games: the positions.
        model: planes -> policy and value.
        optimizer: over its parameters.
        experiment: settings.
        device: torch device.
    """

    primary = Metric("top-1 %")

    def __init__(
        self, games: RecordedGames, model: GoNetwork, optimizer: Optimizer, experiment: RecordsExperiment, device: str
    ):
        seed, how = derive(experiment.run.seed, "data"), experiment.fit
        batches = PositionBatches(games, how.batch_size, seed, device, experiment.data.symmetries)
        super().__init__(model, batches, optimizer, device=device, max_grad_norm=how.max_grad_norm)
        self.model.to(memory_format=torch.channels_last)
        self.games = games
        self.value_weight, self.smoothing = experiment.data.value_weight, how.label_smoothing

    def _outcomes(self, rows: NDArray[np.int64]) -> Tensor:
        """1, 0 or -1 for the player to move, of positions rows [B]."""
        columns = self.games.window.rows
        sign = 1 - 2 * (columns["ply"][rows] % 2).astype(np.float32)
        return torch.from_numpy(sign * np.sign(columns["score"][rows]).astype(np.float32)).to(self.device)

    def loss(self, outputs: Any, batch: Batch) -> Losses:
        """Cross-entropy of the move and, with a weight, of the outcome; and how often the first guess was it."""
        policy = F.cross_entropy(outputs.policy, batch.y, label_smoothing=self.smoothing)
        metrics = {"loss": policy, "accuracy": (outputs.policy.argmax(1) == batch.y).float().mean()}
        if self.value_weight:
            value = value_loss(outputs.value, self._outcomes(batch.items.numpy()))
            metrics |= {"policy_loss": policy, "value_loss": value, "loss": policy + self.value_weight * value}
        return metrics

    def evaluate(self, split: str, stop: Stop) -> dict[str, Any]:
        """How many per cent of the moves of a split are the most probable one; Wilson's 95 % interval over positions.

        Raises:
            Stopped: a stop was requested.
        """
        right, loss, within5, won = 0.0, 0.0, 0.0, 0.0
        for batch in until(stop, self.data.ordered(split, CHUNK)):
            with torch.no_grad():
                outputs = self.model(batch.x)
            right += float((outputs.policy.argmax(1) == batch.y).sum())
            within5 += float((outputs.policy.topk(5).indices == batch.y[:, None]).sum())
            loss += float(F.cross_entropy(outputs.policy, batch.y, reduction="sum"))
            outcome = self._outcomes(batch.items.numpy())
            won += float(((outputs.value.diff(dim=1).squeeze(1) * outcome > 0) | (outcome == 0)).sum())
        n = len(self.games.splits[split])
        low, high = wilson(right, n)
        return self.primary.score(
            100 * right / n,
            100 * low,
            100 * high,
            loss=loss / n,
            top5=100 * within5 / n,
            winner=100 * won / n,
            split=split,
            examples=n,
        )

    def memory(self, batch_size: int) -> int:
        """Bytes of the positions, and of the activations of a batch."""
        held = sum(column.nbytes for column in self.games.window.rows.values())
        maps = getattr(self.model.encoder, "channels", 64) * self.games.window.setting.size**2 * 4
        return held + batch_size * maps * 3 * (2 + 2 * len(list(self.model.encoder.modules())) // 8)


class PolicyTrainer(Trainer):
    """The trainer of a policy, which can also play."""

    def policy(self, seed: int) -> NetworkPolicy:
        """The policy, of what is seen of a board; nothing is drawn."""
        network: Any = self.task.modules["model"]
        return NetworkPolicy(network)


def build_records(experiment: RecordsExperiment, context: Any) -> PolicyTrainer:
    """Build the Learner of a policy from records."""
    games = read_games(experiment.data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(experiment.run.seed, "weights"))
        model = GoNetwork(experiment.net, games.window.setting.size)
    fit = experiment.fit
    groups = [group | {"lr": fit.learning_rate} for group in decayed(model, fit.weight_decay)]
    optimizer = make_optimiser(fit.optimiser, groups, lr=fit.learning_rate)
    task = PolicyTask(games, model, optimizer, experiment, context.device)
    return PolicyTrainer(task, fit, experiment.run.seed, context.device)
