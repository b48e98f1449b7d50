"""The verbs from Python: `train`, `load`, `evaluate`. Reached as ``rlab.train`` and so on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rlab.errors import RlabError
from rlab.run.config import changed
from rlab.run.contract import (
    Ability,
    Acts,
    Detects,
    Draws,
    Plays,
    Predicts,
    Samples,
    ScoresData,
    ShowsValues,
    Speaks,
    Stop,
    Stopped,
    ability,
)
from rlab.run.files import disk_error, make_folder, replace_durably, to_json
from rlab.run.folder import RunFolder, find_run
from rlab.run.signals import stop_on_signals
from rlab.trust import allow, given

if TYPE_CHECKING:
    import numpy as np


def train(agent: str, env: str = "", name: str | None = None, *, data: str = "", **settings: Any) -> RunFolder:
    """Train an agent or a model; progress is shown on stderr. Ctrl-C stops and saves (resume it: ``rlab resume NAME``).

    Args:
        agent: as after ``rlab train``: an agent or a model.
        env: what an agent learns on: an Atari game, a Gymnasium id or ``package.module:Id``.
        name: the run's name; None makes one from agent, environment and time.
        data: what a model learns on: a data set.
        settings: fields of the configuration by name, such as ``steps=20_000, learning_rate=1e-3``.

    Raises:
        RlabError: a name or value is wrong, the machine is too small, or the run met NaN or a failing disk, or
            collapsed (with `stop_on_collapse`).
        Stopped: a stop was asked for before the run began; nothing was written.
    """
    from rlab.recipes import load_recipes
    from rlab.run.lifecycle import start_run
    from rlab.run.progress import LiveView

    given([agent, env, data])
    recipe = load_recipes().get(agent)
    asked = {"env": env, "data": data}
    wrong = [part for part, name in asked.items() if bool(name) != (part in recipe.subject)]
    if wrong:
        right = " and ".join(f"{part}=..." for part in recipe.subject) or "nothing"
        raise RlabError(f"'{agent}' learns on {right}, and on nothing else")
    names = [asked[part] for part in recipe.subject]
    config = changed(
        recipe.default(names[0] if names else ""), dict(zip(recipe.subject, names, strict=True)) | settings
    )
    stop = Stop()
    main = threading.current_thread() is threading.main_thread()

    def prepare(config: Any, footprint: Any, folder: RunFolder) -> Any:
        if stop.requested:
            raise Stopped
        return config

    with stop_on_signals(stop) if main else contextlib.nullcontext(), LiveView(" on ".join([agent, *names])) as view:
        folder, _ = start_run(agent, config, name, stop, view, prepare)
    return folder


class Loaded:
    """A run's Learner with what its newest checkpoint has learned. Use it as a context manager, or call `close`.

    Attributes:
        folder: the run.
        config: its typed configuration.
        learner: the Learner.
        step: the progress at which the checkpoint was saved.
    """

    def __init__(self, folder: RunFolder, device: str = "auto"):
        from rlab.recipes import load_recipes
        from rlab.run.lifecycle import of_this_version, open_run, restore_policy

        load_recipes()
        self.folder = folder
        nothing = RlabError(f"run '{folder.name}' has no checkpoint yet, so there is nothing to play or predict with")
        if not folder.checkpoints.is_dir() or not any(folder.checkpoints.iterdir()):
            raise nothing
        with contextlib.ExitStack() as stack:
            run = stack.enter_context(open_run(folder, device))
            if run.saved is None:
                raise nothing
            with of_this_version(folder):
                restore_policy(run.learner, run.saved.state)
            self.config: Any = run.config
            self.learner: Any = run.learner
            self.step: int = run.learner.progress().done
            self._stack = stack.pop_all()

    def ability(self, kind: type[Ability]) -> Ability:
        """What the run can do of a kind: `rlab.run.contract.Predicts`, `Samples`, `Draws`, ...

        Raises:
            RlabError: it cannot; the message says what it can do.
        """
        found = ability(self.learner, kind)
        if found is None:
            can = [text for one, text in ABILITIES.items() if ability(self.learner, one) is not None]
            wanted = ABILITIES.get(kind, f"can {kind.__name__.lower()}").replace("can ", "cannot ", 1)
            recipe = self.folder.config()["recipe"]
            rest = ", ".join(can) or "can only be trained"
            raise RlabError(f"run '{self.folder.name}' ({recipe}) {wanted}; it {rest}")
        return found

    def close(self) -> None:
        """Free environments and memory. Safe to call twice."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class Player(Loaded):
    """A trained policy; made by `load`."""

    def __init__(self, folder: RunFolder, device: str = "auto", seed: int = 0):
        if seed < 0:
            raise RlabError(f"seed is {seed}; it must be at least 0")
        super().__init__(folder, device)
        self._policy = self.ability(Plays).policy(seed)

    def act(self, obs: np.ndarray, first: np.ndarray | None = None, mask: np.ndarray | None = None) -> np.ndarray:
        """obs[N, *shape], first bool[N] (an episode starts), mask bool[N, A] or None -> int64[N]."""
        import numpy as np

        return self._policy.act(obs, np.zeros(len(obs), bool) if first is None else first, mask)

    def action_values(self) -> np.ndarray | None:
        """What was expected of each action when it last acted, [N, A]; None of agents that have no such values."""
        return self._policy.q_values if isinstance(self._policy, ShowsValues) else None

    def score(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Play whole games."""
        return self.ability(Plays).evaluate_games(episodes, seed, stop)


class Predictor(Loaded):
    """A trained model; made by `load`."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """x[B, *shape] as in the data set (bytes or floats) -> probabilities[B, K]; of numbers [B].

        Raises:
            RlabError: the run predicts nothing, or inputs of another shape.
        """
        return self.ability(Predicts).predict(x)

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """n new items as the data set has them, drawn by the seed alone.

        Raises:
            RlabError: the run has learned nothing that makes new data.
        """
        return self.ability(Samples).sample(n, seed)

    def outputs(self, stop: Stop) -> tuple[Any, Any]:
        """Outputs for the test examples, and their targets; see `Classification.outputs`.

        Raises:
            RlabError: the run predicts nothing.
        """
        import torch

        task: Any = self.ability(Predicts)
        with torch.no_grad():
            outputs, targets = task.outputs("test", stop)
        return outputs, targets

    def score(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Look at all test examples; there is nothing to draw, so number and seed are not used."""
        return dict(self.ability(ScoresData).evaluate_split("test", stop))


ABILITIES: dict[type, str] = {
    Acts: "can act",
    Plays: "can play",
    Predicts: "can predict",
    Samples: "can make new data",
    Detects: "can find objects",
    Draws: "can be drawn",
    Speaks: "can play Go by itself",
}
"""What a run can do, in words."""


def load(
    run: RunFolder | Path | str, device: str = "auto", seed: int = 0, *, trust: Sequence[str] = ()
) -> Player | Predictor:
    """Load what a run's newest whole checkpoint has learned, a policy or a model; changes nothing in its folder.

    Args:
        run: what `train` returned, a name, a path, or "latest".
        device: auto, cpu, cuda or cuda:N.
        seed: of the policy's own random numbers.
        trust: modules and programs (``"gtp:COMMAND"``) that the run names and may use; see docs/security.md.

    Raises:
        RlabError: there is no such run, it has no checkpoint yet, or none is whole.
        Untrusted: the run names a module or program that nobody else has named.
    """
    allow(trust)
    folder = _folder(run)
    return Predictor(folder, device) if "data" in folder.config()["subject"] else Player(folder, device, seed)


def evaluate(
    run: RunFolder | Path | str,
    episodes: int = 30,
    seed: int = 0,
    device: str = "auto",
    *,
    stop: Stop | None = None,
    trust: Sequence[str] = (),
) -> dict[str, Any]:
    """Play whole games with raw scores, and write ``evaluation.json`` in the run's folder.

    Args:
        run: what `train` returned, a name, a path, or "latest".
        episodes: how many games.
        seed: of environments and policy.
        device: auto, cpu, cuda or cuda:N.
        stop: polled at every step.
        trust: modules and programs (``"gtp:COMMAND"``) that the run names and may use; see docs/security.md.

    Returns:
        mean, median, low, high (95 % interval of the mean), human_normalised, episodes, protocol, epsilon,
        returns and the rest, as written.

    Raises:
        RlabError: there is no such run or nothing to play.
        Stopped: `stop` was set before there was a result.
    """
    folder = _folder(run)
    with load(folder, device, seed, trust=trust) as loaded:
        from rlab.run.lifecycle import prepare_process, resolve_device
        from rlab.run.provenance import describe_session

        score = loaded.score(episodes, seed, stop or Stop())
        session = describe_session(resolve_device(device), prepare_process(loaded.config.run.threads), seed)
        document = {"schema": 1, "step": loaded.step, **score, "session": session}
    try:
        make_folder(folder.evaluation.parent)
        replace_durably(folder.evaluation, to_json(document))
    except OSError as e:
        raise disk_error(e, folder.path) from None
    return document


def evaluate_together(
    runs: Sequence[RunFolder | Path | str], device: str = "auto", *, stop: Stop | None = None
) -> dict[str, Any]:
    """Score the mean of what several models say of their test examples: of probabilities, or of numbers.

    Args:
        runs: of models on the same data set; nothing is written to their folders.
        device: auto, cpu, cuda or cuda:N.
        stop: polled between batches.

    Returns:
        The score of the mean, as of one model, and members (run -> the "mean" of its own score) and members_mean.

    Raises:
        RlabError: fewer than two, one twice, an agent's, or two of different data, classes or test examples.
        Stopped: `stop` was set before there was a result.
    """
    from rlab.tasks.ensemble import Member, ensemble_score

    folders = [_folder(run) for run in runs]
    names = [folder.name for folder in folders]
    if len(set(names)) < max(2, len(names)):
        raise RlabError(
            f"models are taken together of at least two different runs, not of {', '.join(names) or 'none'}"
        )
    members = []
    for folder in folders:
        with load(folder, device) as loaded:
            if not isinstance(loaded, Predictor):
                raise RlabError(f"run '{folder.name}' plays games, so that it cannot be taken together with models")
            outputs, targets = loaded.outputs(stop or Stop())
            task = loaded.learner.task
            items = task.dataset.items("test")
            members.append(Member(folder.name, task.dataset.name, task.classes, items, outputs, targets))
    return ensemble_score(members)


def draw(run: RunFolder | Path | str, device: str = "auto", *, stop: Stop | None = None) -> dict[str, Path]:
    """Draw what a model does with the test examples, into ``pictures/`` of its run's folder; of games see `rlab watch`.

    Returns:
        Name -> file: confusion, wrong (misclassified examples) and looked (heat maps), as far as there are such.

    Raises:
        RlabError: there is no such run, it has no checkpoint, or it plays games.
        Stopped: `stop` was set before there was a result.
    """
    from rlab.recipes import load_recipes

    folder = _folder(run)
    document = folder.config()
    if "data" not in document["subject"]:
        raise RlabError(f"run '{folder.name}' plays games; rlab watch {folder.name} films it")
    if not load_recipes().get(document["recipe"]).draws:
        return {}
    with load(folder, device) as loaded:
        draws = ability(loaded.learner, Draws)
        drawn = {} if draws is None else draws.draw(stop or Stop())
    return write_pictures(folder, drawn)


def write_pictures(folder: RunFolder, drawn: Mapping[str, bytes]) -> dict[str, Path]:
    """Write pictures, PNG by name, into ``pictures/`` of a run's folder; return name -> file.

    Raises:
        RlabError: the disk refused.
    """
    files = {name: folder.pictures / f"{name}.png" for name in drawn}
    try:
        make_folder(folder.pictures)
        for name, content in drawn.items():
            replace_durably(files[name], content)
    except OSError as e:
        raise disk_error(e, folder.path) from None
    return files


def _folder(run: RunFolder | Path | str) -> RunFolder:
    return run if isinstance(run, RunFolder) else find_run(str(run))
