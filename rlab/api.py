"""The verbs from Python: `train`, `resume`, `load`, `evaluate`. Reached as ``rlab.train`` and so on."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from rlab.errors import RlabError, printable
from rlab.run.config import changed, to_plain, with_curve
from rlab.run.contract import (
    Ability,
    Acts,
    Converses,
    Detects,
    Draws,
    Embeds,
    Interpolates,
    Labels,
    Plays,
    Predicts,
    Samples,
    SamplesOfClasses,
    ScoresData,
    ShowsValues,
    Sounds,
    Speaks,
    Stop,
    Stopped,
    Translates,
    Writes,
    ability,
)
from rlab.run.files import disk_error, make_folder, read_document, replace_durably, to_json
from rlab.run.folder import RunFolder, find_run, run_at
from rlab.run.report import summary_html
from rlab.run.signals import stop_on_signals
from rlab.run.status import last_row, status_of, subject_of
from rlab.trust import allow, given

if TYPE_CHECKING:
    import numpy as np

    from rlab.agents.film import Film
    from rlab.run.callbacks import OnCheckpoint, OnEvaluation, OnStep
    from rlab.run.loop import View


@dataclass(frozen=True)
class Run(RunFolder):
    """A run that was trained from Python: its folder (``path``, ``name``), its score, and what it has learned."""

    env: Any = field(default=None, repr=False, compare=False)
    """The environment, if Python code gave one that has no name."""

    @property
    def score(self) -> dict[str, Any] | None:
        """The last evaluation (mean, low, high and the rest, as `evaluate` returns it); None before the first."""
        if self.evaluation.exists():
            return read_document(self.evaluation, "evaluation", 1)
        row = last_row(self.metrics, "eval")
        return None if row is None else {k: v for k, v in row.items() if k not in ("kind", "clock")}

    def load(self, device: str = "auto", seed: int = 0) -> Player | Predictor:
        """What it has learned; see `load`."""
        return load(self, device, seed)

    def resume(self, steps: int | None = None, **more: Any) -> Run:
        """Go on with it; see `resume`."""
        return resume(self, steps, **more)

    def _repr_html_(self) -> str:
        return summary_html(self)


def train(
    agent: str,
    env: Any = "",
    name: str | None = None,
    *,
    data: str = "",
    on_step: OnStep | None = None,
    on_evaluation: OnEvaluation | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    **settings: Any,
) -> Run:
    """Train an agent or a model; progress is shown on stderr. Ctrl-C stops and saves (go on with it: `resume`).

    Args:
        agent: as after ``rlab train``: an agent or a model.
        env: what an agent learns on: an Atari game, a Gymnasium id, ``package.module:Id``, a class or function that
            makes a `gymnasium.Env`, or an object of ``gymnasium.make``, whose ``spec`` says how copies are made (the
            object itself is left alone). What cannot be imported by a name must be given again to `resume` and `load`.
        name: the run's name; None makes one from agent, environment and time.
        data: what a model learns on: a data set.
        on_step: called with (progress, metrics) after every step of the learner, which may be many of the environment.
        on_evaluation: called with (progress, score) after every evaluation.
        on_checkpoint: called with (progress, path) after every checkpoint. Callbacks get copies and change nothing of
            the run, its random numbers included; one that returns False or raises `StopTraining` ends the run, saved,
            and any other exception does so, too, and is then raised here.
        settings: fields of the configuration by name, such as ``steps=20_000, learning_rate=1e-3`` or
            ``minutes=10``; of a Gymnasium environment also ``env_args={...}``, ``wrappers=[...]`` and ``max_steps=N``.

    Raises:
        RlabError: a name or value is wrong, the machine is too small, or the run met NaN or a failing disk, or
            collapsed (with `stop_on_collapse`).
        Stopped: a stop was asked for before the run began; nothing was written.
    """
    began = time.monotonic()  # torch, which comes next, takes seconds: they are part of `minutes`
    from rlab.parallel.data_parallel import leading, settled
    from rlab.recipes import load_recipes
    from rlab.run.lifecycle import start_run

    settings, env = _with_environment(env, settings)
    given([agent, env, data, list(settings.get("wrappers", ()))])
    recipe = load_recipes().get(agent)
    asked = {"env": env, "data": data}
    wrong = [part for part, name in asked.items() if bool(name) != (part in recipe.subject)]
    if wrong:
        right = " and ".join(f"{part}=..." for part in recipe.subject) or "nothing"
        raise RlabError(f"'{agent}' learns on {right}, and on nothing else")
    names = [asked[part] for part in recipe.subject]
    default = recipe.default(names[0] if names else "")
    if "evaluate_steps" not in settings:
        default = with_curve(default)
    if settings.get("minutes") and recipe.budget_name in settings:
        raise RlabError(f"minutes and {recipe.budget_name} exclude each other: by the clock there is no such number")
    config = changed(default, dict(zip(recipe.subject, names, strict=True)) | settings)
    given(to_plain(config))

    def start(stop: Stop, view: View) -> RunFolder:
        def prepare(config: Any, footprint: Any, folder: RunFolder) -> Any:
            if stop.requested:
                raise Stopped
            return config

        lead = partial(leading, None, stop=stop)
        return start_run(agent, settled(config), name, stop, view, prepare, lead=lead, began=began)[0]

    callbacks = {"on_step": on_step, "on_evaluation": on_evaluation, "on_checkpoint": on_checkpoint}
    folder = _driven(" on ".join([agent, *names]), start, callbacks)
    return Run(folder.path, None if type(env) is str else env)


def resume(
    run: RunFolder | Path | str,
    steps: int | None = None,
    *,
    minutes: float | None = None,
    schedules: Literal["hold", "stretch"] = "hold",
    env: Any = None,
    device: str | None = None,
    on_step: OnStep | None = None,
    on_evaluation: OnEvaluation | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    trust: Sequence[str] = (),
) -> Run:
    """Go on with a run where its newest whole checkpoint stands, to the same bits as if it had never stopped.

    Args:
        run: what `train` returned, a name, a path, or "latest".
        steps: a new budget of the whole run, what is done included (of a model its epochs); None: the one that it has.
            A run that has spent its budget and gets no other is left as it is.
        minutes: the same of a run that goes by the clock.
        schedules: with a new budget, schedules (exploration, learning rates) end where they did and stay there, or are
            fractions of the new one.
        env: the environment, if the run learned in one that only Python code has.
        device: another device than the run was started on; not bit-exact then.
        on_step: see `train`, as for the other callbacks.
        on_evaluation: see `train`.
        on_checkpoint: see `train`.
        trust: modules and programs (``"gtp:COMMAND"``) that the run names and may use; see docs/security.md.

    Raises:
        RlabError: there is no such run, another process holds it, no checkpoint is whole, or as in `train`.
        Untrusted: the run names a module or program that nobody else has named.
    """
    from rlab.parallel.data_parallel import leading
    from rlab.recipes import load_recipes
    from rlab.run.lifecycle import resume_run

    allow(trust)
    folder = _folder(run)
    env = _environment_of(run, env)
    if folder.shipped:
        raise RlabError(f"'{folder.name}' comes with rlab and holds only what playing needs, so it cannot go on")
    document, status = folder.config(), status_of(folder)
    if status.state == "finished" and steps is None and minutes is None:
        return Run(folder.path, env)
    recipe = load_recipes().get(document["recipe"])
    more: dict[str, Any] = {}
    if steps is not None or minutes is not None:
        if steps is not None and minutes is not None:
            raise RlabError("steps and minutes exclude each other: a run has one budget")
        from rlab.run.extension import Extension

        name, amount = (recipe.budget_name, steps) if minutes is None else ("minutes", minutes)
        assert amount is not None
        more["extension"] = Extension(name, amount, schedules)

    def start(stop: Stop, view: View) -> RunFolder:
        resume_run(folder, device, stop, view, give=_giver(folder, env), lead=partial(leading, None, stop=stop), **more)
        return folder

    callbacks = {"on_step": on_step, "on_evaluation": on_evaluation, "on_checkpoint": on_checkpoint}
    _driven(f"{document['recipe']} on {subject_of(document) or folder.name}", start, callbacks)
    return Run(folder.path, env)


def _driven(title: str, start: Callable[[Stop, View], RunFolder], callbacks: Mapping[str, Any]) -> RunFolder:
    """Start or resume a run with its view; what a callback raised is raised once the run is saved."""
    from rlab.run.progress import LiveView

    stop = Stop()
    main = threading.current_thread() is threading.main_thread()
    with stop_on_signals(stop) if main else contextlib.nullcontext(), LiveView(title) as view:
        if not any(callbacks.values()):
            return start(stop, view)
        from rlab.run.callbacks import CallingView

        calling = CallingView(view, stop, **callbacks)
        folder = start(stop, calling)
    if calling.error is not None:
        raise calling.error
    return folder


def _with_environment(env: Any, settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """(settings, name) with what an environment or a wrapper in Python stands for."""
    if isinstance(env, str) and "wrappers" not in settings:
        return settings, env
    from rlab.envs.objects import environment, wrapper_name

    name, options = environment(env)
    own, args = options.pop("env_args", {}), settings.get("env_args", {})
    args = own | args if own and isinstance(args, dict) else args
    settings = options | settings | ({"env_args": args} if args else {})
    if "wrappers" in settings:
        settings["wrappers"] = [wrapper_name(wrapper) for wrapper in settings["wrappers"]]
    return settings, name


def _environment_of(run: Any, env: Any) -> Any:
    """The environment that a run is to be opened with: the one given, or the one that it was trained in here."""
    return run.env if env is None and isinstance(run, Run) else env


def _giver(folder: RunFolder, env: Any) -> Callable[[Any], Any]:
    """What puts an environment that Python code gives into a run's configuration."""
    if env is None:
        return lambda config: config

    def give(config: Any) -> Any:
        from rlab.envs.objects import given_again

        if not hasattr(config, "env"):
            raise RlabError(f"run '{folder.name}' learned from data, so that it takes no env")
        return replace(config, env=replace(config.env, env=given_again(folder.name, config.env.env, env)))

    return give


class Loaded:
    """A run's Learner with what a checkpoint has learned. Use it as a context manager, or call `close`.

    Args:
        folder: the run.
        device: auto, cpu, cuda or cuda:N.
        progress: of the checkpoint; None: the newest one.

    Attributes:
        folder: the run.
        config: its typed configuration.
        learner: the Learner.
        step: the progress at which the checkpoint was saved.
    """

    def __init__(self, folder: RunFolder, device: str = "auto", env: Any = None, progress: int | None = None):
        from rlab.recipes import load_recipes
        from rlab.run.lifecycle import of_this_version, open_run, restore_policy

        load_recipes()
        self.folder = folder
        self._device, self._env, self._progress = device, env, progress
        nothing = RlabError(f"run '{folder.name}' has no checkpoint yet, so there is nothing to play or predict with")
        if not folder.checkpoints.is_dir() or not any(folder.checkpoints.iterdir()):
            raise nothing
        with contextlib.ExitStack() as stack:
            run = stack.enter_context(open_run(folder, device, _giver(folder, env), progress))
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
            wanted = ABILITIES.get(kind, f"can {kind.__name__.lower()}")
            wanted = wanted.replace("can ", "cannot ", 1).replace("has ", "has no ", 1)
            recipe = self.folder.config()["recipe"]
            rest = ", ".join(can) or "can only be trained"
            raise RlabError(f"run '{self.folder.name}' ({recipe}) {wanted}; it {rest}")
        return found

    def score(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Score it without writing anything; see `evaluate`."""
        raise NotImplementedError

    def evaluate(self, episodes: int = 30, seed: int = 0, *, stop: Stop | None = None) -> dict[str, Any]:
        """Score it and write ``evaluation.json`` in the run's folder; see `rlab.evaluate`."""
        import torch

        from rlab.run.lifecycle import resolve_device
        from rlab.run.provenance import describe_session

        _refuse_below(episodes=(episodes, 1), seed=(seed, 0))
        score = self.score(episodes, seed, stop or Stop())
        session = describe_session(resolve_device(self._device), torch.get_num_threads(), seed)
        document = {"schema": 1, "step": self.step, **score, "session": session}
        folder = self.folder
        if self._progress is not None:  # of a checkpoint that was named: the file is of the newest one
            return document
        try:
            make_folder(folder.evaluation.parent)
            replace_durably(folder.evaluation, to_json(document))
        except (OSError, RlabError) as e:  # a score of an hour is not lost to a disk
            reason = disk_error(e, folder.path) if isinstance(e, OSError) else e
            print(f"rlab: the score is not kept: {printable(reason)}", file=sys.stderr)
            document["not_written"] = str(reason)
        return document

    def report(self) -> Path:
        """Write a page with the run's curves, score and settings; return where it lies."""
        from rlab.recipes import defaults_of
        from rlab.run.report import write_report

        return write_report(self.folder, defaults_of(self.folder.config()))

    def resume(self, steps: int | None = None, **more: Any) -> Run:
        """Go on with the run, see `rlab.resume`; what is loaded here stays as it is."""
        return resume(Run(self.folder.path, self._env), steps, **more)

    def _repr_html_(self) -> str:
        return summary_html(self.folder)

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

    def __init__(
        self, folder: RunFolder, device: str = "auto", seed: int = 0, env: Any = None, progress: int | None = None
    ):
        super().__init__(folder, device, env, progress)
        self._policy = self.ability(Plays).policy(seed)
        self._envs: Any = getattr(self.learner, "envs", None)

    def predict(self, observation: Any, first: Any = False, mask: Any = None) -> Any:
        """Choose an action as evaluations do, for one observation or a batch, as the environment itself counts them.

        Args:
            observation: one observation, or several in an array [B, *shape].
            first: whether an episode starts with it; agents with a memory forget what was before.
            mask: bool[A] or [B, A] of legal actions, for environments that report them; None: all are.

        Returns:
            For one observation an int, or an array of a Box's shape: what ``env.step`` takes. For a batch an array
            [B] or [B, *shape].

        Raises:
            RlabError: an observation of another shape or type than the environment has.
        """
        import numpy as np

        envs = self._spaces()
        space = envs.single_observation_space
        obs = np.asarray(observation)
        if obs.shape == () and space.shape == (1,):
            obs = obs[None]
        one = obs.shape == space.shape
        if not one and obs.shape[1:] != space.shape:
            raise RlabError(
                f"run '{self.folder.name}' takes one observation of shape {space.shape} or a batch of shape "
                f"{('B', *space.shape)}, but got {obs.shape}".replace("'B'", "B")
            )
        kind: Any = "same_kind" if np.issubdtype(space.dtype, np.inexact) else "safe"
        whole = np.issubdtype(space.dtype, np.integer) and obs.dtype.kind in "iu"
        if not (whole or np.can_cast(obs.dtype, space.dtype, kind)):
            raise RlabError(
                f"run '{self.folder.name}' takes observations of {space.dtype}, which {obs.dtype} cannot become"
            )
        batch = obs[None] if one else obs
        if envs.observation_start is not None:
            batch = batch - envs.observation_start
        mask = None if mask is None else np.asarray(mask, bool)
        legal = mask[None] if one and mask is not None else mask
        starts = np.broadcast_to(np.asarray(first, bool), len(batch))
        actions = self._policy.act(batch.astype(space.dtype, copy=False), starts, legal) + envs.action_start
        if not one:
            return actions
        return int(actions[0]) if actions.ndim == 1 and actions.dtype.kind in "iu" else actions[0]

    def act(self, obs: np.ndarray, first: np.ndarray | None = None, mask: np.ndarray | None = None) -> np.ndarray:
        """obs[N, *shape], first bool[N] (an episode starts), mask bool[N, A] or None -> int64[N]."""
        import numpy as np

        return self._policy.act(obs, np.zeros(len(obs), bool) if first is None else first, mask)

    def hear(self, reward: np.ndarray) -> None:
        """Tell the policy what its last actions paid, float[N]: one that goes for a return asks for the rest then."""
        from rlab.agents.evaluation import HearsRewards

        if isinstance(self._policy, HearsRewards):
            self._policy.hear(reward)

    def action_values(self) -> np.ndarray | None:
        """What was expected of each action when it last acted, [N, A]; None of agents that have no such values."""
        return self._policy.q_values if isinstance(self._policy, ShowsValues) else None

    def score(self, episodes: int, seed: int, stop: Stop) -> dict[str, Any]:
        """Play whole games."""
        return self.ability(Plays).evaluate_games(episodes, seed, stop)

    def watch(self, episodes: int = 1, seed: int = 0, *, max_steps: int = 5_000, values: bool = True) -> Path:
        """Film whole games, as ``rlab watch`` does without a window.

        Args:
            episodes: how many games.
            seed: of the environment.
            max_steps: stop after so many steps, whether the games are over or not.
            values: show what the agent expects of each action, if it has such values.

        Returns:
            The mp4 in the run's ``videos/``, beside a GIF; of an environment without pictures what the agent draws.

        Raises:
            RlabError: there is nothing to see of the environment.
        """
        files = self.film(episodes, seed, max_steps=max_steps, values=values).files
        return files.get("mp4") or next(iter(files.values()))

    def report(self) -> Path:
        """Write a page with the run's curves, score and settings, and the values of a table; return where it lies."""
        if (draws := ability(self.learner, Draws)) is not None:
            write_pictures(self.folder, draws.draw(Stop()))
        return super().report()

    def film(
        self,
        episodes: int = 1,
        seed: int = 0,
        *,
        max_steps: int = 5_000,
        values: bool = True,
        stop: Stop | None = None,
        window: Callable[[float], Any] = lambda fps: None,
    ) -> Film:
        """The same, with what was scored, every file that was written, and a window if there is one.

        Args:
            episodes: how many games.
            seed: of the environment.
            max_steps: stop after so many steps.
            values: show what the agent expects of each action.
            stop: polled at every step.
            window: frames a second -> a `rlab.run.video.Window`, or None.

        Raises:
            RlabError: there is nothing to see of the environment.
        """
        from rlab.agents.film import film

        _refuse_below(episodes=(episodes, 1), seed=(seed, 0), max_steps=(max_steps, 1))
        stop, draws = stop or Stop(), ability(self.learner, Draws)
        name = f"{self.step}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}.mp4"
        done = film(
            self.config.env,
            self,
            self.folder.videos / name,
            episodes=episodes,
            seed=seed,
            max_steps=max_steps,
            stop=stop,
            needed=draws is None,
            values=self.action_values if values else lambda: None,
            window=window,
        )
        if draws is not None and not stop.requested:
            done.files |= write_pictures(self.folder, draws.draw(stop))
        return done

    def _spaces(self) -> Any:
        """An environment with the spaces of one copy."""
        if self._envs is None:
            from rlab.envs import make_vec

            env = self.config.env
            rules = env.rules() if hasattr(env, "rules") else {}
            with contextlib.closing(make_vec(env.env, 1, 0, **rules, training=False)) as envs:
                self._envs = envs
        return self._envs


class Predictor(Loaded):
    """A trained model; made by `load`."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """x[B, *shape] as in the data set -> probabilities[B, K]; of numbers [B]. One input, without
        the B, gives one row.

        Raises:
            RlabError: the run predicts nothing, or inputs of another shape.
        """
        import numpy as np

        task: Any = self.ability(Predicts)
        x = np.asarray(x)
        shape = getattr(getattr(task, "dataset", None), "shape", None)
        return task.predict(x[None])[0] if shape is not None and x.shape == tuple(shape) else task.predict(x)

    def watch(self) -> Path:
        """Draw what it does with the test examples; return the folder of the pictures."""
        draw(self.folder, self._device)
        return self.folder.pictures

    def report(self) -> Path:
        """Write a page with the run's curves, pictures, score and settings; return where it lies."""
        draw(self.folder, self._device)
        return super().report()

    def sample(self, n: int, seed: int = 0, label: int | str | None = None) -> np.ndarray:
        """n new items as the data set has them, drawn by the seed alone.

        Args:
            n: how many.
            seed: of the draws.
            label: the class of all, its name or number; None: of a run with --conditional all classes in turn.

        Raises:
            RlabError: the run has learned nothing that makes new data, or there is no such class.
        """
        maker = self.ability(Samples)
        if label is None:
            return maker.sample(n, seed)
        if not isinstance(maker, SamplesOfClasses):
            raise RlabError(f"label {label}: run '{self.folder.name}' makes nothing of a class")
        return maker.sample(n, seed, label)

    def write(self, prompt: str = "", n: int = 1, seed: int = 0, **how: Any) -> list[str]:
        """n texts that go on from a prompt; see `rlab.sample`."""
        writer = self.ability(Writes)
        how = {"length": 300, "temperature": 0.8, "top_k": 0, "top_p": 1.0} | how
        return ["".join(writer.write(prompt, seed + i, **how)) for i in range(n)]

    def translate(self, texts: Sequence[str], beam: int = 0) -> list[str]:
        """Translate texts; see `rlab.translate`."""
        return [done.text for done in self.ability(Translates).translate(texts, beam)]

    def outputs(self, stop: Stop) -> tuple[Any, Any]:
        """Outputs for the test examples, and their targets; see `Classification.outputs`.

        Raises:
            RlabError: the run predicts no labels.
        """
        import torch

        task: Any = self.ability(Labels)
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
    Labels: "can tell labels",
    Samples: "can make new data",
    Interpolates: "can go from one item to another",
    Writes: "can write text",
    Sounds: "can make sounds",
    Translates: "can translate",
    Detects: "can find objects",
    Draws: "can be drawn",
    Embeds: "has vectors of words",
    Converses: "can converse",
    Speaks: "can play Go by itself",
}
"""What a run can do, in words."""


def load(
    run: RunFolder | Path | str, device: str = "auto", seed: int = 0, *, env: Any = None, trust: Sequence[str] = ()
) -> Player | Predictor:
    """Load what a run's newest whole checkpoint has learned, a policy or a model; changes nothing in its folder.

    Args:
        run: what `train` returned, a name, a path, "latest", or a name with a checkpoint: "NAME:best", "NAME:5000".
        device: auto, cpu, cuda or cuda:N.
        seed: of the policy's own random numbers.
        env: the environment, if the run learned in one that only Python code has.
        trust: modules and programs (``"gtp:COMMAND"``) that the run names and may use; see docs/security.md.

    Raises:
        RlabError: there is no such run, it has no checkpoint yet, or none is whole.
        Untrusted: the run names a module or program that nobody else has named.
    """
    allow(trust)
    _refuse_below(seed=(seed, 0))
    (folder, progress), env = _at(run), _environment_of(run, env)
    if "data" in folder.config()["subject"]:
        return Predictor(folder, device, env, progress)
    return Player(folder, device, seed, env, progress)


def evaluate(
    run: RunFolder | Path | str,
    episodes: int = 30,
    seed: int = 0,
    device: str = "auto",
    *,
    env: Any = None,
    stop: Stop | None = None,
    trust: Sequence[str] = (),
) -> dict[str, Any]:
    """Play whole games with raw scores, and write ``evaluation.json`` in the run's folder, if that can be written to.

    Args:
        run: as `load` takes it. Of a checkpoint that is named (``"NAME:best"``) nothing is written.
        episodes: how many games.
        seed: of environments and policy.
        device: auto, cpu, cuda or cuda:N.
        env: the environment, if the run learned in one that only Python code has.
        stop: polled at every step.
        trust: modules and programs (``"gtp:COMMAND"``) that the run names and may use; see docs/security.md.

    Returns:
        mean, median, low, high (95 % interval of the mean), human_normalised, episodes, protocol, epsilon,
        returns and the rest, as written; and ``not_written``, which says why, where it could not be.

    Raises:
        RlabError: there is no such run or nothing to play.
        Stopped: `stop` was set before there was a result.
    """
    _refuse_below(episodes=(episodes, 1))
    with load(run, device, seed, env=env, trust=trust) as loaded:
        return loaded.evaluate(episodes, seed, stop=stop)


def sample(
    run: RunFolder | Path | str,
    prompt: str = "",
    n: int = 1,
    seed: int = 0,
    device: str = "auto",
    *,
    length: int = 300,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    trust: Sequence[str] = (),
) -> list[str] | np.ndarray:
    """Let a model make something new: n texts that go on from a prompt, or n items as its data set has them.

    Args:
        run: as `load` takes it.
        prompt: where texts begin, which is no part of what is returned; empty: anywhere. This and what stands below
            `device` is of text alone.
        n: how many.
        seed: of the first one; the next one has the next seed.
        device: auto, cpu, cuda or cuda:N.
        length: of a text, in tokens.
        temperature: below 1 the probable tokens come more often; 0 takes the most probable one each time.
        top_k: draw among so many tokens, the most probable ones; 0: among all.
        top_p: draw among the most probable tokens that have this share of the probability together.
        trust: modules and programs that the run names and may use; see docs/security.md.

    Raises:
        RlabError: there is no such run, or it makes nothing new.
    """
    _refuse_below(n=(n, 1), length=(length, 1), top_k=(top_k, 0))
    with load(run, device, seed, trust=trust) as loaded:
        if not isinstance(loaded, Predictor):
            loaded.ability(Writes)  # says what it can do
        model = cast(Predictor, loaded)
        if ability(model.learner, Samples) is not None:
            return model.sample(n, seed)
        return model.write(prompt, n, seed, length=length, temperature=temperature, top_k=top_k, top_p=top_p)


def translate(
    run: RunFolder | Path | str,
    texts: str | Sequence[str],
    beam: int = 0,
    device: str = "auto",
    *,
    trust: Sequence[str] = (),
) -> str | list[str]:
    """Translate a text, or several, with a trained model.

    Args:
        run: as `load` takes it.
        texts: one, or several.
        beam: translations that are followed at a time; 0: as many as in the run's evaluations.
        device: auto, cpu, cuda or cuda:N.
        trust: modules and programs that the run names and may use; see docs/security.md.

    Returns:
        The translation of the one text, or a list of them.

    Raises:
        RlabError: there is no such run, it does not translate, or a text is empty or too long.
    """
    _refuse_below(beam=(beam, 0))
    with load(run, device, trust=trust) as loaded:
        if not isinstance(loaded, Predictor):
            loaded.ability(Translates)  # says what it can do
        done = cast(Predictor, loaded).translate([texts] if isinstance(texts, str) else list(texts), beam)
    return done[0] if isinstance(texts, str) else done


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

    folders = [_at(run)[0] for run in runs]
    names = [folder.name for folder in folders]
    if len(set(names)) < max(2, len(names)):
        raise RlabError(
            f"models are taken together of at least two different runs, not of {', '.join(names) or 'none'}"
        )
    members = []
    for run, folder in zip(runs, folders, strict=True):
        with load(run, device) as loaded:
            if not isinstance(loaded, Predictor):
                raise RlabError(f"run '{folder.name}' plays games, so that it cannot be taken together with models")
            outputs, targets = loaded.outputs(stop or Stop())
            task = loaded.learner.task
            items = task.dataset.splits["test"]
            members.append(Member(folder.name, task.dataset.name, task.classes, items, outputs, targets))
    return ensemble_score(members)


def draw(run: RunFolder | Path | str, device: str = "auto", *, stop: Stop | None = None) -> dict[str, Path]:
    """Draw what a model does with the test examples, or a table of values, into ``pictures/`` of the run's folder.

    Returns:
        Name -> file: confusion, wrong (misclassified examples) and looked (heat maps), as far as there are such; of a
        table values.

    Raises:
        RlabError: there is no such run, it has no checkpoint, or it plays games.
        Stopped: `stop` was set before there was a result.
    """
    from rlab.recipes import is_drawn, load_recipes

    folder = _folder(run)
    document = folder.config()
    if not is_drawn(document):
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


def _at(run: RunFolder | Path | str) -> tuple[RunFolder, int | None]:
    """The run, and the progress of the checkpoint that is named with it; None: the newest."""
    return (run, None) if isinstance(run, RunFolder) else run_at(str(run))


def _folder(run: RunFolder | Path | str) -> RunFolder:
    return run if isinstance(run, RunFolder) else find_run(str(run))


def _refuse_below(**values: tuple[int, int]) -> None:
    """Refuse arguments, name -> (value, bound), that lie below their bound."""
    for name, (value, bound) in values.items():
        if value < bound:
            raise RlabError(f"{name} is {value}; it must be at least {bound}")
