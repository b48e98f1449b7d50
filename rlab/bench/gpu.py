"""Every path of the lab that differs on a GPU, tried one after the other: what works, and how fast."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from rlab.bench.roofline import best_seconds
from rlab.errors import RlabError
from rlab.run.files import write_document

Figures = dict[str, Any]
SECONDS = 3.0
"""Of a measurement."""


def arithmetic(device: str) -> Figures:
    """Products of matrices in each precision, and a copy in memory."""
    figures = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        size = 4096 if device != "cpu" else 256
        a = torch.rand(size, size, device=device).to(dtype)
        took = best_seconds(lambda a=a: a @ a, SECONDS / 3, device)  # type: ignore[misc]
        figures[f"{name}_tflops"] = 2 * size**3 / took / 1e12
    x = torch.rand(1 << (26 if device != "cpu" else 20), device=device)
    figures["copy_gbytes_per_s"] = 8 * x.numel() / best_seconds(x.clone, SECONDS / 3, device) / 1e9
    return figures


def replay(device: str) -> Figures:
    """Replay with its frames on the device: batches of 256 Atari observations a second, equal to those of the CPU."""
    from rlab.agents.types import Step
    from rlab.agents.value.replay import Replay
    from rlab.run.files import scratch_folder
    from rlab.run.journal import Journal

    batches, speed = [], 0.0
    for where in ("cpu", device):
        with scratch_folder() as folder:
            journal = Journal(folder)
            ring = Replay(4_000, 4, (4, 84, 84), np.dtype(np.uint8), 4, None, where, journal)
            rng = np.random.default_rng(0)
            for number in range(200):
                obs = rng.integers(0, 255, (4, 4, 84, 84)).astype(np.uint8)
                last, zeros = np.full(4, number % 50 == 49), np.zeros(4, np.float32)
                ring.add(Step(obs, np.zeros(4, np.int64), zeros, zeros + 1, last, obs, None, None))
            batches.append(ring.sample(np.random.default_rng(1), 256, 1, 0.99).obs.cpu())
            took = best_seconds(lambda ring=ring, rng=rng: ring.sample(rng, 256, 1, 0.99), SECONDS / 2, where)  # type: ignore[misc]
            speed = 256 / took
            journal.close()
    return {"transitions_per_s": speed, "equal_to_cpu": bool(torch.equal(*batches))}


def update(device: str) -> Figures:
    """DQN's update on MinAtar-sized images, plain and captured as a graph."""
    from rlab.recipes import load_recipes
    from rlab.run.config import changed
    from rlab.run.contract import Stop
    from rlab.run.files import scratch_folder
    from rlab.run.journal import Journal
    from rlab.run.lifecycle import BuildContext

    figures: Figures = {}
    recipe = load_recipes().get("dqn")
    modes = ("off", "on") if device != "cpu" else ("off",)  # on a CPU compiling takes minutes and gains nothing
    for mode in modes:
        settings = {"env": "MinAtar/Breakout", "learning_starts": 256, "num_envs": 8, "train_every": 8, "compile": mode}
        config = changed(recipe.default("MinAtar/Breakout"), settings)
        with scratch_folder() as folder:
            journal = Journal(folder)
            learner = recipe.build(config, BuildContext(device, journal, stop=Stop()))
            try:
                for _ in range(40):
                    learner.step()
                agent = learner.agent
                batch = agent.memory.sample(np.random.default_rng(0), 256, 1, 0.99)
                took = best_seconds(lambda agent=agent, batch=batch: agent.update(batch), SECONDS, device)  # type: ignore[misc]
                figures[f"updates_per_s_{'captured' if mode == 'on' else 'plain'}"] = 1 / took
            finally:
                learner.close()
                journal.close()
    return figures


def _images(device: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    from rlab.nn.models import classifier

    small = device == "cpu"
    x = torch.rand(8 if small else 256, 3, 32, 32, device=device)
    model = classifier("resnet20", (3, 32, 32), 10).to(device)
    return model, x, torch.zeros(len(x), dtype=torch.long, device=device)


def training(device: str) -> Figures:
    """Training steps of a ResNet-20 in float32, bfloat16, and float16 with a scaled loss (AMP)."""
    figures = {}
    kind = torch.device(device).type
    for name, dtype in (("fp32", None), ("bf16", torch.bfloat16), ("amp_fp16", torch.float16)):
        model, x, y = _images(device)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        scaler = torch.amp.GradScaler(kind, enabled=name == "amp_fp16")

        def step() -> None:
            optimizer.zero_grad()  # noqa: B023
            with torch.autocast(kind, dtype or torch.bfloat16, enabled=dtype is not None):  # noqa: B023
                loss = cross_entropy(model(x), y)  # noqa: B023
            scaler.scale(loss).backward()  # noqa: B023
            scaler.step(optimizer)  # noqa: B023
            scaler.update()  # noqa: B023

        figures[f"{name}_images_per_s"] = len(x) / best_seconds(step, SECONDS, device)
    return figures


def compiled(device: str) -> Figures:
    """torch.compile of a ResNet-20 in evaluation: how much faster, and how far from the plain one."""
    if device == "cpu":
        return {"left_out": "on a CPU it takes a C++ compiler and minutes"}
    model, x, _ = _images(device)
    model = model.eval()
    with torch.no_grad():
        quick: Any = torch.compile(model)
        off = float((quick(x) - model(x)).abs().max())
        plain, fast = (best_seconds(lambda m=m: m(x), SECONDS, device) for m in (model, quick))  # type: ignore[misc]
    return {"times_faster": plain / fast, "largest_difference": off}


def distributed(device: str) -> Figures:
    """DistributedDataParallel with NCCL on one card: it starts, steps, and its gradients are the plain ones."""
    import torch.distributed as dist
    from torch.distributed import HashStore  # type: ignore[attr-defined]
    from torch.nn.parallel import DistributedDataParallel

    backend = "nccl" if device.startswith("cuda") else "gloo"
    # Of one process; a TCP store's own thread sometimes kept it from ending.
    dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        model, x, y = _images(device)
        cross_entropy(model(x), y).backward()
        plain = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        model.zero_grad()
        both = DistributedDataParallel(model)
        cross_entropy(both(x), y).backward()
        pairs = zip(plain, (p.grad for p in model.parameters() if p.grad is not None), strict=True)
        off = max(float((a - b).abs().max()) for a, b in pairs)
        numbers = torch.ones(1 << 20, device=device)
        took = best_seconds(lambda: dist.all_reduce(numbers), SECONDS / 3, device)
        del both  # what it holds of the group must go first
        return {"backend": backend, "largest_difference": off, "all_reduce_of_4_mib_ms": 1_000 * took}
    finally:
        dist.destroy_process_group()


def exported(device: str) -> Figures:
    """Export of a model that lies on the device to ONNX; ONNX Runtime on the CPU computes the same."""
    import onnxruntime

    from rlab.run.files import scratch_folder

    model, x, _ = _images(device)
    model = model.eval()
    with scratch_folder() as folder:
        path = folder / "model.onnx"
        torch.onnx.export(model, (x[:2],), path, dynamo=False, opset_version=17, input_names=["x"])
        graph = path.read_bytes()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model(x[:2]).cpu().numpy()
    (outputs,) = session.run(None, {"x": x[:2].cpu().numpy()})
    return {"bytes": len(graph), "largest_difference": float(np.abs(outputs - expected).max())}


TRIALS: dict[str, Callable[[str], Figures]] = {
    "arithmetic": arithmetic,
    "replay on the device": replay,
    "training in fp32, bf16, AMP": training,
    "DQN's update, captured": update,
    "DDP on one card": distributed,
    "export": exported,
    "torch.compile": compiled,
}
"""What is tried, the quick ones first."""


def measure(minutes: float, device: str, path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Try every path within so many minutes, and write what came of it to a JSON file.

    Raises:
        RlabError: torch sees no GPU.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RlabError(f"torch {torch.__version__} sees no GPU here, so none of its {len(TRIALS)} paths was tried")
    began = time.monotonic()
    trials: list[Figures] = []
    for name, trial in TRIALS.items():
        started = time.monotonic()
        if started - began > 60 * minutes:
            trials.append({"name": name, "works": None, "why": f"the {minutes:g} minutes were over"})
            continue
        say(f"{name} ...")
        try:
            trials.append({"name": name, "works": True, "figures": trial(device)})
        except Exception as e:  # whatever is broken on this machine, the other paths are tried
            trace = traceback.format_exc().splitlines()[-6:]
            trials.append({"name": name, "works": False, "why": f"{type(e).__name__}: {e}", "trace": trace})
        trials[-1]["seconds"] = round(time.monotonic() - started, 2)
    cuda = device.startswith("cuda")
    result = {
        "schema": 1,
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or "cpu",
        "memory_gb": torch.cuda.get_device_properties(device).total_memory / 1e9 if cuda else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "minutes": round((time.monotonic() - began) / 60, 2),
        "trials": trials,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_document(path, result)
    return result
