"""The verbs from Python: `train`, `load`, `evaluate`. Reached as ``rlab.train`` and so on."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from rlab.errors import RlabError
from rlab.registry import RECIPES
from rlab.run.config import changed
from rlab.run.files import disk_error, replace_durably, to_json
from rlab.run.folder import RunFolder, find_run
from rlab.run.learner import Stop, Stopped
from rlab.run.signals import stop_on_signals

if TYPE_CHECKING:
    import numpy as np


def train(agent: str, env: str, name: str | None = None, **settings: Any) -> RunFolder:
    """Train an agent; progress is shown on stderr. Ctrl-C stops and saves (resume it: ``rlab resume NAME``).

    Args:
        agent: as after ``rlab train``.
        env: an Atari game, a Gymnasium id or ``package.module:Id``.
        name: the run's name; None makes one from agent, environment and time.
        settings: fields of the configuration by name, such as ``steps=20_000, learning_rate=1e-3``.

    Raises:
        RlabError: a name or value is wrong, the machine is too small, or the run met NaN or a failing disk, or
            collapsed (with `stop_on_collapse`).
        Stopped: a stop was asked for before the run began; nothing was written.
    """
    import agents.recipes  # noqa: F401 - they register themselves
    from rlab.run.life import start_run
    from rlab.run.view import LiveView

    config = changed(RECIPES.get(agent).default(env), settings)
    stop = Stop()
    main = threading.current_thread() is threading.main_thread()

    def prepare(config: Any, footprint: Any, folder: RunFolder) -> Any:
        if stop.requested:
            raise Stopped
        return config

    with stop_on_signals(stop) if main else contextlib.nullcontext(), LiveView(f"{agent} on {env}") as view:
        folder, _ = start_run(agent, config, env, name, stop, view, prepare)
    return folder


class Player:
    """A trained policy; made by `load`. Use it as a context manager, or call `close`.

    Attributes:
        folder: the run.
        config: its typed configuration.
        learner: the Learner, with the policy of the newest checkpoint.
        step: the progress at which that was saved.
    """

    def __init__(self, folder: RunFolder, device: str = "auto", seed: int = 0):
        import agents.recipes  # noqa: F401 - they register themselves
        from rlab.run.life import of_this_version, open_run

        self.folder = folder
        if not folder.checkpoints.is_dir() or not any(folder.checkpoints.iterdir()):
            raise RlabError(f"run '{folder.name}' has no checkpoint yet, so there is nothing to play")
        with contextlib.ExitStack() as stack:
            run = stack.enter_context(open_run(folder, device))
            if run.saved is None:
                raise RlabError(f"run '{folder.name}' has no checkpoint yet, so there is nothing to play")
            self.config = run.config
            # Only learners that play have these; the contract of all of them does not name them.
            learner = cast(Any, run.learner)
            if not hasattr(learner, "restore_policy"):
                raise RlabError(f"run '{folder.name}' learns no policy, so there is nothing to play")
            with of_this_version(folder):
                learner.restore_policy(run.saved.state)
            self.learner = learner
            self.step: int = learner.progress().done
            self._policy = learner.agent.policy(seed)
            self._stack = stack.pop_all()

    def act(self, obs: np.ndarray, first: np.ndarray | None = None, mask: np.ndarray | None = None) -> np.ndarray:
        """obs[N, *shape], first bool[N] (an episode starts), mask bool[N, A] or None -> int64[N]."""
        import numpy as np

        return self._policy.act(obs, np.zeros(len(obs), bool) if first is None else first, mask)

    def close(self) -> None:
        """Free environments and memory. Safe to call twice."""
        self._stack.close()

    def __enter__(self) -> Player:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(run: RunFolder | Path | str, device: str = "auto", seed: int = 0) -> Player:
    """Load the policy of a run's newest whole checkpoint; changes nothing in its folder.

    Args:
        run: what `train` returned, a name, a path, or "latest".
        device: auto, cpu, cuda or cuda:N.
        seed: of the policy's own random numbers.

    Raises:
        RlabError: there is no such run, it has no checkpoint yet, or none is whole.
    """
    return Player(_folder(run), device, seed)


def evaluate(
    run: RunFolder | Path | str,
    episodes: int = 30,
    seed: int = 0,
    device: str = "auto",
    *,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Play whole games with raw scores, and write ``evaluation.json`` in the run's folder.

    Args:
        run: what `train` returned, a name, a path, or "latest".
        episodes: how many games.
        seed: of environments and policy.
        device: auto, cpu, cuda or cuda:N.
        stop: polled at every step.

    Returns:
        mean, median, low, high (95 % interval of the mean), human_normalised, episodes, protocol, epsilon,
        returns and the rest, as written.

    Raises:
        RlabError: there is no such run or nothing to play.
        Stopped: `stop` was set before there was a result.
    """
    folder = _folder(run)
    with load(folder, device, seed) as player:
        from rlab.run.life import prepare_process, resolve_device
        from rlab.run.provenance import describe_session

        score = player.learner.evaluate_games(episodes, seed, stop or Stop())
        session = describe_session(resolve_device(device), prepare_process(player.config.run.threads), seed)
        document = {"schema": 1, "step": player.step, **score, "session": session}
    try:
        replace_durably(folder.evaluation, to_json(document))
    except OSError as e:
        raise disk_error(e, folder.path) from None
    return document


def _folder(run: RunFolder | Path | str) -> RunFolder:
    return run if isinstance(run, RunFolder) else find_run(str(run))
