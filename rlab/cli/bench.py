"""``rlab bench NAME``: steps per second beside other libraries and of environments alone, and Breakout by the clock."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rlab.cli.common import JsonFlag, parse, refuse_below, results, say, stopped_status, until_stopped
from rlab.cli.flags import Arg, filled
from rlab.errors import RlabError
from rlab.run.contract import Stop


@dataclass(frozen=True)
class Speed:
    """Train this lab's agent and its peer in turn on the same machine, and compare steps per second; or ours alone and
    beside busy processes."""

    agent: str = "dqn"
    """Whose speed is measured."""
    rounds: int = 3
    """How often each is measured, in turn; the median counts."""
    steps: int | None = None
    """Environment steps of each measurement; by default 6,000, to a score 2,000,000."""
    ladder: bool = False
    """stable-baselines3 as its user can make it faster: C++ environments, bf16, torch.compile, one after the other."""
    beside: int = 0
    """Beside this many busy processes in place of a peer: the share of the fair pace that is left."""
    to_score: float | None = None
    """Minutes until the last 100 training games have this mean score, ours and a plain PQN in torch (--agent pqn)."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Envs:
    """Step the environments with random actions, nobody learning: MinAtar's games and the same ones of Atari; Go."""

    rounds: int = 3
    """How often each is measured; the median counts."""
    seconds: float = 0.5
    """How long each measurement takes."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Gpu:
    """Try every path that differs on a GPU, say what works and how fast, and write it to a JSON file."""

    minutes: float = 9.0
    """No trial begins after this time."""
    device: str = "cuda"
    """torch device; cpu only tries the command itself."""
    out: Path | None = None
    """The file; by default bench-gpu.json among the runs."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Fleet:
    """Let fleets of several sizes play for a learner, and count what it accepts: steps or moves a second, and bytes."""

    agent: str = "dqn"
    """alphazero, dqn or a variant of it."""
    env: str = "Breakout"
    """What is played."""
    actors: Annotated[str, Arg("1,2,4")] = "1,2,4"
    """Sizes of the fleets."""
    each: int = 8
    """Environments, or games, of an actor."""
    seconds: float = 20.0
    """For which is counted, from the first that comes in."""
    cluster: str = "auto"
    """local, this machine; an address of Ray; auto: what RAY_ADDRESS names, else this machine."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Roofline:
    """Measure what this processor can do at the most by its arithmetic and by its memory, and how near layers come."""

    threads: int = 1
    """Of torch."""
    seconds: float = 0.3
    """How long each measurement takes."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class BreakoutGpu:
    """Train PQN on Breakout on a GPU with settings for one, evaluate it, and hold it against the clock."""

    steps: int = 8_000_000
    """Environment steps."""
    device: str = "cuda"
    """Torch device; cpu tries the command out."""
    seed: int = 0
    """Of the run."""
    name: str | None = None
    """The run's name."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Data:
    """Train LeNet-5 on images: how much of the time data take, and how fast an epoch is beside PyTorch's tutorial."""

    data: str = "mnist"
    """A data set of images with classes."""
    batch_size: int = 128
    """Examples of an update, of both."""
    updates: int = 200
    """Of one measurement."""
    rounds: int = 3
    """How often each is measured, in turn; the median counts."""
    threads: int = 1
    """CPU threads of torch, of both; 0: one for every core. With a core to spare ours makes the next batch on it."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Backbones:
    """Train the same encoders on several data sets and games, for the same minutes each, and carry one between them."""

    encoders: str | None = None
    """Which, A,B; with parts such as resnet20+group. By default six of at most a million parameters."""
    worlds: str | None = None
    """Where: mnist, fashion, nuclei, go, minatar, atari. By default all but the last."""
    seeds: int = 3
    """Of every cell."""
    minutes: float = 1.0
    """Of every run, on one thread; how many updates that is, each run measures."""
    transfer: bool = True
    """Whether an encoder that has learned in one world is tried in others, too."""
    traveller: str = "impala"
    """Which encoder that is."""
    full: bool = False
    """All encoders and all worlds."""
    jobs: int | None = None
    """Runs at a time; by default as many as there are cores."""
    name: str = "backbones"
    """Of the folder under the runs; the same plan goes on."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Generative:
    """Train generative models for the same minutes each, and hold their samples against real test data."""

    models: str | None = None
    """Which, A,B; by default autoencoder, vae, gan, dcgan, wgan-gp, flow and ddpm."""
    data: str = "mnist,fashion_mnist"
    """On which data sets of images, A,B."""
    seeds: int = 3
    """Of every model on every data set."""
    minutes: float = 10.0
    """Of every run, on one thread."""
    samples: int = 10_000
    """That are drawn of each run."""
    jobs: int | None = None
    """Runs at a time; by default as many as there are cores."""
    name: str = "generative"
    """Of the folder under the runs; the same plan goes on."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Detection:
    """Time R-CNN, Fast, Faster R-CNN and SSD on the same encoder: images a second, in detection and in training."""

    data: str = "digit-scenes"
    """A data set of images with boxes."""
    encoder: str = "resnet"
    """Of all four."""
    images: int = 16
    """Of one measurement."""
    rounds: int = 3
    """How often each is measured, in turn; the median counts."""
    torchvision: bool = False
    """Measure our SSD beside torchvision's instead, which must be installed."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Go:
    """Play random games of Go, beside OpenSpiel where it is installed: one thread each. With --search, search trees
    too, beside mctx with pgx: all cores. The peers are the extra `oracles`."""

    size: int = 9
    """Of the board, 2 to 19."""
    rounds: int = 5
    """How often each way of playing is measured, in turn; the median counts."""
    seconds: float = 0.5
    """How long each measurement takes."""
    granularity: bool = False
    """Measure by how much one Python call does instead: a step of 1, 16, 256 or 4,096 boards, or whole games; beside
    OpenSpiel and EnvPool where they are installed."""
    search: bool = False
    """Measure tree search as well."""
    visits: int = 32
    """Simulations of a search."""
    games: int = 0
    """Games that are searched side by side; 0: 256 on 5x5, else 64; 4,096 on a GPU."""
    device: str = "cpu"
    """Of our network in searches: auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of our network in searches."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class GoSolved:
    """Hold a player of Go against what is known of a small board: its first move, and Black's result with it."""

    player: Annotated[str, Arg(positional=True)] = "go5"
    """A run, RUN@VISITS, or another player."""
    size: int | None = None
    """Of the board: 3, 5 or 7; without it the one that the player has learned, or 5."""
    opponent: str = "gnugo:10,never-resign"
    """Who has White beside the player itself; an empty one: nobody."""
    games: int = 100
    """Of each match, at the least."""
    seed: int = 0
    """Of every game's chance."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Parallel:
    """Train a ResNet by two processes of one thread each, beside one process of two threads and one of one: examples a
    second, in turn."""

    rounds: int = 5
    """How often each way is measured, in turn; the median counts."""
    updates: int = 30
    """Timed updates of one measurement."""
    beside: int = 0
    """Beside this many busy processes."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Sequences:
    """Train Transformers beside plain PyTorch of the same shape, from the same weights on the same batches: tokens a
    second and losses. And write with and without a cache of keys and values."""

    rounds: int = 3
    """How often each side is measured, in turn, each time in a process of its own; the median counts."""
    steps: int = 200
    """Timed updates of one measurement."""
    threads: int = 1
    """CPU threads of torch, of both; 0: one for every core. With a core to spare ours makes the next batch on it."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class WaveNet:
    """Let a WaveNet generate by a compiled loop that keeps its layers' last inputs, and by a whole pass for every
    sample: samples a second, and whether both make the same. With --classifier, whether its words are understood."""

    run: str = ""
    """Whose network; by default one of 2,048 samples' receptive field with random weights."""
    samples: int = 4_000
    """Of each sound."""
    rounds: int = 3
    """How often each way is measured, in turn; the median counts."""
    classifier: str = ""
    """A run on fsdd_mel, which listens to words of --run instead."""
    each: int = 5
    """Words of each class by each speaker that are listened to."""
    seed: int = 0
    """Of the draws of these words."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


@dataclass(frozen=True)
class Words:
    """Train word vectors beside gensim on the same text with the same settings: words a second, held-out loss, and how
    well both agree with people on WordSim-353. gensim is in the extra `oracles`."""

    data: str = "shakespeare-small"
    """A data set of text, or `text:FILE`."""
    method: Literal["skip-gram", "cbow"] = "skip-gram"
    """Of both."""
    epochs: int = 5
    """Passes over the text."""
    rounds: int = 3
    """How often each trains, in turn, each time with another seed; the median speed counts."""
    workers: int = 2
    """Threads of each; 0: one for every core."""
    json: JsonFlag = False
    """Print one JSON object; everything else goes to stderr."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    benchmarks: dict[str, tuple[type, Callable[[Sequence[str]], int]]] = {
        "backbones": (Backbones, _backbones),
        "breakout-gpu": (BreakoutGpu, _breakout),
        "data": (Data, _data),
        "detection": (Detection, _detection),
        "envs": (Envs, _environments),
        "fleet": (Fleet, _fleet),
        "generative": (Generative, _generative),
        "go": (Go, _go),
        "go-solved": (GoSolved, _go_solved),
        "gpu": (Gpu, _gpu),
        "parallel": (Parallel, _parallel),
        "roofline": (Roofline, _roofline),
        "sequences": (Sequences, _sequences),
        "speed": (Speed, _speed),
        "wavenet": (WaveNet, _wavenet),
        "words": (Words, _words),
    }
    if argv and argv[0] in benchmarks:
        return benchmarks[argv[0]][1](argv[1:])
    if argv and argv[0] in ("-h", "--help"):
        print("usage: rlab bench NAME [FLAG ...]\n")
        for name, (flags, _) in benchmarks.items():
            print(f"  {name:<14}{filled(' '.join((flags.__doc__ or '').split()), 16)[16:]}")
        print("\nrlab bench NAME --help shows the flags of one.")
        return 0
    problem = f"there is no benchmark '{argv[0]}'" if argv else "name a benchmark"
    say(f"rlab: {problem}; valid: {', '.join(benchmarks)}")
    return 2


def _backbones(argv: Sequence[str]) -> int:
    return until_stopped(lambda stop: _measure_backbones(argv, stop))


def _measure_backbones(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Backbones, "bench backbones", argv)
    with results(flags.json) as put:
        from rlab.bench.backbones import FULL, SMALL, SMALL_WORLDS, WORLDS, Plan, measure
        from rlab.bench.backbones_page import table, write
        from rlab.compare.processes import Lines

        def named(given: str | None, small: Sequence[str], full: Sequence[str]) -> tuple[str, ...]:
            if given is not None:
                return tuple(part.strip() for part in given.split(",") if part.strip())
            return tuple(full if flags.full else small)

        encoders, worlds = named(flags.encoders, SMALL, FULL), named(flags.worlds, SMALL_WORLDS, list(WORLDS))
        plan = Plan(encoders, worlds, flags.seeds, flags.minutes, flags.transfer, flags.traveller)
        result = measure(plan, flags.name, flags.jobs, stop, Lines())
        if not result["finished"]:
            say(f"stopped; the same command goes on in {result['folder']}")
            return stopped_status(stop)
        files = write(result, Path(result["folder"]))
        put("\n".join([table(result), *(f"wrote   {path}" for path in files.values())]), result)
        return 0


def _generative(argv: Sequence[str]) -> int:
    return until_stopped(lambda stop: _measure_generative(argv, stop))


def _measure_generative(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Generative, "bench generative", argv)
    with results(flags.json) as put:
        from rlab.bench.generative import MODELS, Plan, measure, table, write_picture
        from rlab.compare.processes import Lines

        models, data = (
            tuple(part.strip() for part in given.split(",") if part.strip())
            for given in (",".join(MODELS) if flags.models is None else flags.models, flags.data)
        )
        plan = Plan(models, data, flags.seeds, flags.minutes, flags.samples)
        result = measure(plan, flags.name, flags.jobs, stop, Lines(), say)
        if not result["finished"]:
            say(f"stopped; the same command goes on in {result['folder']}")
            return stopped_status(stop)
        put(f"{table(result)}\nwrote   {write_picture(result)}", result)
        return 0


def _fleet(argv: Sequence[str]) -> int:
    return until_stopped(lambda stop: _measure_fleet(argv, stop))


def _measure_fleet(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(Fleet, "bench fleet", argv)
    refuse_below(flags, each=1)
    if not 0 < flags.seconds <= 3600:
        raise RlabError(f"--seconds is {flags.seconds:g}; it must be more than 0 and at most 3600")
    sizes = [int(word) for word in flags.actors.split(",") if word.strip().isdigit() and int(word) > 0]
    if not sizes or len(sizes) != len(flags.actors.split(",")):
        raise RlabError(f"--actors is '{flags.actors}'; write numbers of at least 1, such as 1,2,4")
    with results(flags.json) as put:
        from rlab.bench.fleet import measure
        from rlab.run.contract import Stopped

        try:
            m = measure(flags.agent, flags.env, sizes, flags.each, flags.seconds, flags.cluster, stop, say)
        except Stopped:
            return stopped_status(stop)
        lines = [f"{'actors':>6}{'accepted/s':>12}{'MB/s':>8}{'updates/s':>11}{'lag':>8}{'lost':>6}"]
        for row in m["rows"]:
            lag = "-" if row["lag"] is None else f"{row['lag']:.1f}"
            lines.append(f"{row['actors']:>6}{row['per_s']:>12,.0f}{row['mb_per_s']:>8.1f}{row['updates_per_s']:>11.1f}"
                         f"{lag:>8}{row['lost']:>6}")  # fmt: skip
        lines.append(f"{m['cores']} cores, load {m['load'][0]:.1f} before and {m['load'][1]:.1f} after")
        put("\n".join(lines), m)
        return 0


def _data(argv: Sequence[str]) -> int:
    flags = parse(Data, "bench data", argv)
    refuse_below(flags, batch_size=1, updates=1, rounds=1, threads=0)
    with results(flags.json) as put:
        from rlab.bench.training import measure

        measured = measure(flags.data, flags.batch_size, flags.updates, flags.rounds, flags.threads, say)
        lines = [f"{'augmentation':<22}{'time in the model':>18}"]
        lines += [f"{share['augment'] or '-':<22}{share['model_share']:>18.1%}" for share in measured["shares"]]
        lines += ["", f"{'tutorial':<22}{'ours epochs/s':>15}{'theirs':>10}{'ratio':>8}"]
        lines += [
            f"{row['tutorial']:<22}{row['ours_epochs_per_s']:>15.3f}{row['peer_epochs_per_s']:>10.3f}{row['ratio']:>7.2f}x"
            for row in measured["rows"]
        ]
        put("\n".join(lines), measured)
        return 0


def _detection(argv: Sequence[str]) -> int:
    flags = parse(Detection, "bench detection", argv)
    refuse_below(flags, images=1, rounds=1)
    with results(flags.json) as put:
        if flags.torchvision:
            from rlab.bench.torchvision_ssd import measure as beside

            m = beside(flags.data, flags.encoder, flags.images, flags.rounds, say)
            lines = [f"{'images/s':<14}{'detection':>12}{'training':>12}"]
            lines += [
                f"{row['model']:<14}{row['images_per_s']:>12.1f}{row['training_images_per_s']:>12.1f}"
                for row in m["rows"]
            ]
            lines.append("the same encoder, maps and anchors; one thread, on the CPU")
            lines += [] if m["own_nms"] else ["suppression of both is ours: torchvision's compiled part does not load"]
            put("\n".join(lines), m)
            return 0
        from rlab.bench.detection import measure

        m = measure(flags.data, flags.encoder, flags.images, flags.rounds, say)
        lines = [f"{'images/s':<14}{'detection':>12}{'network':>12}{'training':>12}{'parameters':>14}"]
        lines += [
            f"{row['model']:<14}{row['images_per_s']:>12.1f}{row['network_images_per_s']:>12.1f}"
            f"{row['training_images_per_s']:>12.1f}{row['parameters']:>14,}"
            for row in m["rows"]
        ]
        lines.append("network: without selective search, which R-CNN and Fast R-CNN wait for; one thread, on the CPU")
        put("\n".join(lines), m)
        return 0


def _gpu(argv: Sequence[str]) -> int:
    flags = parse(Gpu, "bench gpu", argv)
    if not 0 < flags.minutes < 600:
        raise RlabError(f"--minutes is {flags.minutes:g}; it must be more than 0 and less than 600")
    with results(flags.json) as put:
        from rlab.bench.gpu import measure
        from rlab.run.folder import runs_dir

        path = flags.out or runs_dir() / "bench-gpu.json"
        m = measure(flags.minutes, flags.device, path, say)
        lines = [f"{m['device']}, torch {m['torch']}, {m['minutes']:g} minutes"]
        for trial in m["trials"]:
            figures = ", ".join(
                f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in trial.get("figures", {}).items()
            )
            works = {True: "works", False: "FAILS", None: "not tried"}[trial["works"]]
            lines.append(f"{trial['name']:<30}{works:<10}{figures or trial.get('why', '')}")
        put("\n".join([*lines, f"wrote   {path}"]), m)
        return 0 if all(trial["works"] is not False for trial in m["trials"]) else 1


def _roofline(argv: Sequence[str]) -> int:
    flags = parse(Roofline, "bench roofline", argv)
    refuse_below(flags, threads=1)
    if not 0 < flags.seconds < 3600:
        raise RlabError(f"--seconds is {flags.seconds:g}; it must be more than 0 and less than 3600")
    with results(flags.json) as put:
        from rlab.bench.roofline import measure

        m = measure(flags.threads, flags.seconds, say)
        lines = [
            f"memory {m['gbytes_per_s']:.1f} GB/s, arithmetic {m['peak_gflops']:.0f} GFLOP/s, threads: {m['threads']}; "
            f"below {m['ridge']:.1f} operations a byte memory decides",
            f"{'layer':<24}{'operations/byte':>16}{'GFLOP/s':>10}{'roof':>10}  limited by",
        ]
        lines += [
            f"{row['layer']:<24}{row['intensity']:>16.2f}{row['gflops']:>10.1f}{row['roof_gflops']:>10.1f}  "
            f"{row['limited_by']}"
            for row in m["rows"]
        ]
        put("\n".join(lines), m)
        return 0


def _parallel(argv: Sequence[str]) -> int:
    flags = parse(Parallel, "bench parallel", argv)
    refuse_below(flags, rounds=1, updates=1, beside=0)
    with results(flags.json) as put:
        from rlab.bench.parallel import measure

        m = measure(flags.rounds, flags.updates, flags.beside, say)
        lines = [f"{'examples/s, ' + m['model']:<28}{'median':>10}"]
        lines += [f"{row['way']:<28}{row['examples_per_s']:>10,.1f}" for row in m["rows"]]
        for ratio in m["ratios"]:
            interval = "" if ratio["low"] is None else f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"
            lines.append(f"two ranks over {ratio['over']}: {ratio['ratio']:.2f}x{interval}")
        lines.append(f"bar {m['bar']:g}x over one rank of two threads: {'met' if m['met'] else 'not met'}")
        put("\n".join(lines), m)
        return 0


def _breakout(argv: Sequence[str]) -> int:
    flags = parse(BreakoutGpu, "bench breakout-gpu", argv)
    refuse_below(flags, steps=1)
    with results(flags.json) as put:
        from rlab.bench.breakout import MINUTES_BAR, SCORE_BAR, SPEED_BAR, measure

        m = measure(flags.steps, flags.device, flags.seed, flags.name, say)
        met = {bar: "met" if yes else "not met" for bar, yes in m["met"].items()}
        put(
            f"{m['steps_per_s']:,.0f} steps/s on {m['device']} (bar {SPEED_BAR:,}: {met['steps_per_s']})\n"
            f"mean {m['mean']:.1f} [{m['low']:.1f}, {m['high']:.1f}] over {m['episodes']} whole games after "
            f"{m['minutes']:.1f} minutes (bar {SCORE_BAR:g} in {MINUTES_BAR:g}: {met['score']})\n"
            f"next: rlab watch {m['run']}",
            m,
        )
        return 0


def _speed(argv: Sequence[str]) -> int:
    flags = parse(Speed, "bench speed", argv)
    refuse_below(flags, rounds=1, beside=0, **({} if flags.steps is None else {"steps": 1}))
    ways = {"--ladder": flags.ladder, "--beside": flags.beside > 0, "--to-score": flags.to_score is not None}
    if sum(ways.values()) > 1:
        raise RlabError(f"{' and '.join(way for way, chosen in ways.items() if chosen)} exclude each other")
    steps = flags.steps or (6_000 if flags.to_score is None else 2_000_000)
    with results(flags.json) as put:
        from rlab.recipes import load_recipes

        load_recipes()
        from rlab.bench import speed

        if flags.beside:
            m = speed.crowded(flags.agent, flags.beside, flags.rounds, steps, say)
            put(
                f"{m['agent']} on {m['env']}: {m['quiet_steps_per_s']:,.0f} steps/s alone, "
                f"{m['beside_steps_per_s']:,.0f} beside {m['beside']} busy processes on {m['cores']} cores\n"
                f"that is {m['share']:.0%} of its fair share, {m['fair']:.0%} of the pace alone "
                f"(rounds: {', '.join(format(share, '.0%') for share in m['shares'])})",
                m,
            )
            return 0
        if flags.to_score is not None:
            m = speed.race(flags.agent, flags.to_score, steps, say)
            lines = [
                f"{name:<40}{m[side]['minutes']:.1f} minutes, {m[side]['steps']:,} steps"
                + ("" if m[side]["reached"] else f"; not reached (score {m[side]['score']})")
                for side, name in (("ours", m["agent"]), ("peer", m["peer"]))
            ]
            put("\n".join([f"to a mean score of {flags.to_score:g} over 100 training games", *lines]), m)
            return 0
        measured = (speed.climb if flags.ladder else speed.measure)(flags.agent, flags.rounds, steps, say)
        if not flags.json:
            _table(measured["rows"])
        if flags.ladder and not flags.json:
            say(f"the fair row: {measured['name']}")
        put("\nratio is ours / peer; the same numbers for a program: rlab bench speed --json", measured)
        return 0


def _environments(argv: Sequence[str]) -> int:
    flags = parse(Envs, "bench envs", argv)
    _check_turns(flags)
    with results(flags.json) as put:
        from rlab.bench.environments import measure

        measured = measure(flags.seconds, flags.rounds, say)
        lines = [
            f"{row['env']:<22}{row['through']:<10}{row['num_envs']:>6}{row['median']:>14,}{row['best']:>14,}"
            for row in measured["rows"]
        ]
        head = f"{'environment':<22}{'through':<10}{'N':>6}{'median /s':>14}{'best /s':>14}"
        put("\n".join([head, *lines]), measured)
        return 0


def _go(argv: Sequence[str]) -> int:
    flags = parse(Go, "bench go", argv)
    _check_turns(flags)
    refuse_below(flags, visits=1, games=0)
    with results(flags.json) as put:
        from rlab.bench import go_search
        from rlab.bench.go import granularity, measure

        if flags.granularity:
            if flags.search:
                raise RlabError("--granularity and --search are measured one at a time; give one of them")
            m = granularity(flags.size, flags.seconds, flags.rounds, say)
            put(_granularity(m), m)
            return 0
        m = measure(flags.size, flags.seconds, flags.rounds, say)
        theirs = m["openspiel_moves_per_s"]
        lines = [f"random games on {m['size']}x{m['size']}, positional superko{'moves/s':>28}"]
        rates = [
            ("all legal moves found before each", "moves_per_s", m["ratio"]),
            ("one legal move drawn", "playouts_per_s", m["playout_ratio"]),
        ]
        for name, key, ratio in rates:
            lines.append(f"  {name:<48}{m[key]:>14,.0f}" + (f"   {ratio:.1f}x OpenSpiel" if ratio else ""))
        lines.append(f"  {'the same on ' + str(m['threads']) + ' threads':<48}{m['threads_per_s']:>14,.0f}")
        for row in m["steps"]:
            lines.append(
                f"  {'a Python call a step, boards: ' + format(row['boards'], ','):<48}{row['moves_per_s']:>14,.0f}"
            )
        lines.append(
            f"  {'OpenSpiel (simple ko)':<48}{theirs:>14,.0f}"
            if theirs
            else "OpenSpiel is not installed: pip install open_spiel"
        )
        if flags.search:
            searched = go_search.measure(
                flags.size, flags.games, flags.visits, flags.rounds, flags.precision, flags.device, say
            )
            m |= searched
            lines += [
                f"\nGumbel search, {searched['search_games']} games x {searched['search_visits']} visits, "
                f"{searched['search_encoder']} in {searched['precision']} on {searched['search_device']}, "
                f"{searched['search_threads']} threads: simulations/s",
                f"  {'ours':<48}{searched['sims_per_s']:>14,.0f}"
                + (f"   {searched['search_ratio']:.1f}x mctx with pgx" if searched["search_ratio"] else ""),
                f"  {'our network alone':<48}{searched['network_per_s']:>14,.0f}",
                f"  {'mctx with pgx (fp32)':<48}{searched['mctx_sims_per_s']:>14,.0f}"
                if searched["mctx_sims_per_s"]
                else "mctx and pgx are not installed: pip install mctx pgx",
            ]
        put("\n".join(lines), m)
        return 0


def _granularity(m: dict[str, Any]) -> str:
    lines = [f"{'random games on ' + str(m['size']) + 'x' + str(m['size']):<30}{'one call does':<36}{'boards':>7}"
             f"{'median':>14}{'lowest':>13}{'highest':>13}"]  # fmt: skip
    lines += [
        f"{row['engine']:<30}{row['call']:<36}{row['boards']:>7,}{row['median']:>14,.0f}{min(row['speeds']):>13,.0f}"
        f"{max(row['speeds']):>13,.0f} {row['unit']}"
        for row in m["rows"]
    ]
    if m["one_board_ratio"] is None:
        lines.append("OpenSpiel is not installed: pip install open_spiel")
    else:
        lines.append(f"one board, a call a step: {m['one_board_ratio']:.2f}x OpenSpiel; "
                     f"random rollouts of a search: {m['rollout_ratio']:.2f}x")  # fmt: skip
    return "\n".join(lines)


def _go_solved(argv: Sequence[str]) -> int:
    return until_stopped(lambda stop: _measure_go_solved(argv, stop))


def _measure_go_solved(argv: Sequence[str], stop: Stop) -> int:
    flags = parse(GoSolved, "bench go-solved", argv)
    refuse_below(flags, games=1, seed=0)
    with results(flags.json) as put:
        from rlab.bench.go_solved import measure

        m = measure(flags.player, flags.size, flags.opponent, flags.games, flags.seed, stop, say)
        firsts = ", ".join(f"{move} {n}" for move, n in sorted(m["first"].items(), key=lambda one: -one[1]))
        lines = [f"first move: {firsts} of {flags.games} (the centre: {m['centre']:.0%})"]
        for what, match in (("itself", m["itself"]), (flags.opponent, m.get("opponent"))):
            if match:
                lines.append(
                    f"Black wins by {m['known']} or more against {what}: {match['good']} of {match['games']}, "
                    f"{match['share']:.1%} [{match['low']:.1%}, {match['high']:.1%}]"
                )
        bad = [f"{reply} ({good} of {n})" for reply, (good, n) in m["itself"]["replies"].items() if good < n]
        if bad:
            lines.append(f"not after every answer: {', '.join(bad)}")
        put("\n".join(lines), m)
        return 0


def _words(argv: Sequence[str]) -> int:
    flags = parse(Words, "bench words", argv)
    refuse_below(flags, epochs=1, rounds=1, workers=0)
    with results(flags.json) as put:
        from rlab.bench.words import measure

        m = measure(flags.data, flags.method, flags.epochs, flags.rounds, flags.workers, say)
        lines = [f"{m['method']}, {m['words']:,} words of {m['vocabulary']:,}, {m['epochs']} epochs, "
                 f"{m['workers']} threads",
                 f"ours    {m['ours_words_per_s']:>12,.0f} words/s"]  # fmt: skip
        if m["ratio"] is None:
            lines.append("gensim is not installed: pip install gensim")
        else:
            lines += [f"gensim  {m['peer_words_per_s']:>12,.0f} words/s",
                      f"ratio   {m['ratio']:>12.2f}  ({m['whole_ratio']:.2f} from the file to the vectors)",
                      f"loss    {m['loss_ratio']:>12.3f}  ours over gensim's, held out"]  # fmt: skip
        if m["wordsim"] is not None:
            w = m["wordsim"]
            lines.append(f"people  {w['ours']:>12.3f}  gensim {w['peer']:.3f}: Spearman over {w['pairs']} pairs of "
                         f"WordSim-353, difference {w['low']:.3f} to {w['high']:.3f}")  # fmt: skip
        put("\n".join(lines), m)
        return 0


def _sequences(argv: Sequence[str]) -> int:
    flags = parse(Sequences, "bench sequences", argv)
    refuse_below(flags, rounds=1, steps=1, threads=0)
    with results(flags.json) as put:
        from rlab.bench.sequences import measure

        m = measure(flags.rounds, flags.steps, flags.threads, say)
        heads = f"{'ours tokens/s':>14}{'peer tokens/s':>15}{'ratio':>8}{'by CPU':>8}{'loss':>8}{'peer':>8}  beside"
        lines = [f"{'a training step':<23}{heads}"]
        lines += [
            f"{row['task'] + ', ' + row['precision']:<23}{row['ours_tokens_per_s']:>14,.0f}"
            f"{row['peer_tokens_per_s']:>15,.0f}{row['ratio']:>7.2f}x{row['cpu_ratio']:>7.2f}x{row['ours_loss']:>8.4f}"
            f"{row['peer_loss']:>8.4f}  {row['peer']}"
            for row in m["training"]
        ]
        w = m["writing"]
        lines += [
            f"losses are after {m['training'][0]['updates']:,} updates from the same weights on the same batches",
            f"writing {w['tokens']} tokens: {w['cached_tokens_per_s']:,.0f} tokens/s with a cache, "
            f"{w['uncached_tokens_per_s']:,.0f} without: {w['ratio']:.2f}x, by CPU {w['cpu_ratio']:.2f}x; {w['same']} "
            "of the tokens are the same",
        ]
        put("\n".join(lines), m)
        return 0


def _check_turns(flags: Envs | Go) -> None:
    refuse_below(flags, rounds=1)
    if not 0 < flags.seconds < 3600:
        raise RlabError(f"--seconds is {flags.seconds:g}; it must be more than 0 and less than 3600")


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("measured")
    table.add_column("agent")
    table.add_column("peer")
    for name in ("ours steps/s", "peer steps/s", "ratio", "95 %"):
        table.add_column(name, justify="right")
    for row in rows:
        speeds = [f"{row[who]:,.0f}" for who in ("ours_steps_per_s", "peer_steps_per_s")]
        interval = f"{row['low']:.2f} to {row['high']:.2f}" if row.get("low") is not None else ""
        table.add_row(row["name"], row["agent"], row["peer"], *speeds, f"{row['ratio']:.2f}x", interval)
    Console(file=sys.stdout, highlight=False).print(table)


def _wavenet(argv: Sequence[str]) -> int:
    flags = parse(WaveNet, "bench wavenet", argv)
    refuse_below(flags, samples=1, rounds=1, each=1, seed=0)
    with results(flags.json) as put:
        from rlab.bench.wavenet import BATCH_BAR, RATIO_BAR, SPEED_BAR, measure, spoken_accuracy

        if flags.classifier:
            if not flags.run:
                raise RlabError("--classifier listens to the words of a run; name it: --run RUN")
            m = spoken_accuracy(flags.run, flags.classifier, flags.each, flags.seed, say)
            put(
                f"{m['accuracy']:.1f} % [{m['low']:.1f}, {m['high']:.1f}] of {m['words']:,} words are understood; of "
                f"recordings {m['real']:.1f} %",
                m,
            )
            return 0
        m = measure(flags.run, flags.samples, flags.rounds, say)
        met = {bar: "met" if yes else "not met" for bar, yes in m["met"].items()}
        put(
            f"field {m['field']:,} samples, {m['width']} channels{'samples/s':>22}\n"
            f"  {'one sound':<34}{m['single_per_s']:>12,.0f}   bar {SPEED_BAR:,.0f}: {met['single']}\n"
            f"  {str(m['together']) + ' sounds together':<34}{m['batch_per_s']:>12,.0f}   bar {BATCH_BAR:,.0f}: "
            f"{met['batch']}\n"
            f"  {'a whole pass for every sample':<34}{m['naive_per_s']:>12,.1f}   ratio {m['ratio']:,.0f}x, bar "
            f"{RATIO_BAR:g}x: {met['ratio']}\n"
            f"in float64 {m['same_codes']} of {m['checked']} samples are the same; float32 logits are at most "
            f"{m['logits_apart']:.1g} apart",
            m,
        )
        return 0
