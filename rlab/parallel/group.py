"""A group of processes that learn together: how they meet, exchange tensors, and find out who is missing.

They meet in a store of torch.distributed, which the leader (rank 0) holds or torchrun's agent does, and exchange
tensors by gloo, or by NCCL where each has a GPU. Neither knows passwords: keep both inside one machine or a closed
network.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from subprocess import Popen
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import DistStoreError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from rlab.errors import RlabError
from rlab.run.checkpoint import flatten, unflatten
from rlab.run.contract import State

BEAT = 1.0
"""Seconds between two signs of life of a process."""

JOINING = 600.0
"""Seconds that processes have to start, load their data and meet."""

AXES, DTYPES = 8, (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Of tensors that go from one process to another."""

TIMEOUT, LONGEST = "RLAB_RANK_TIMEOUT", 60.0
"""The variable with the seconds after which a silent process counts as lost, and its largest value and default."""


class LostRank(RlabError):
    """A process of the group is gone or silent; the others stop at once."""


def timeout() -> float:
    """Seconds after which a silent process counts as lost.

    Raises:
        RlabError: the environment variable is no such number.
    """
    text = os.environ.get(TIMEOUT, str(LONGEST))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        raise RlabError(f"{TIMEOUT} is '{text}'; it must be seconds above 0, at most {LONGEST:g}")
    return seconds


class Group:
    """What one process knows of the group that it learns in.

    Args:
        rank: its own number; 0 leads.
        world: how many there are.
        store: where they meet.
        device: where tensors that are exchanged lie.
        started: the processes that this one started, by rank.

    Raises:
        LostRank: not all processes came.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        store: Store,
        device: torch.device,
        started: Mapping[int, Popen[bytes]] | None = None,
    ):
        self.rank, self.world, self.device = rank, world, device
        self.store, self.started = store, dict(started or {})
        self._patience = timeout()
        self._over = threading.Event()
        self._told = 0
        store.set(f"who/{rank}", f"{socket.gethostname()}, process {os.getpid()}")
        for other in range(world):
            self._join(other)
        beating: Any = store  # its stub has no clone()
        threading.Thread(target=self._beat, args=(beating.clone(),), daemon=True).start()
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world, timeout=timedelta(seconds=self._patience)
        )

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place; the result has the same bits in each.

        Raises:
            LostRank: a process does not answer.
        """
        self._exchange(lambda: dist.all_reduce(tensor))
        return tensor

    def send(self, tensor: Tensor, rank: int) -> Callable[[], None]:
        """Begin to send a tensor of at most `AXES` axes to another process; return what waits until it is sent."""
        tensor = tensor.to(self.device).contiguous()
        head = torch.zeros(2 + AXES, dtype=torch.int64)
        head[:2] = torch.tensor([DTYPES.index(tensor.dtype), tensor.dim()])
        head[2 : 2 + tensor.dim()] = torch.tensor(tensor.shape)
        head = head.to(self.device)
        works: list[Any] = []
        self._exchange(lambda: works.extend([dist.isend(head, rank), dist.isend(tensor, rank)]))

        def wait() -> None:
            kept = head, tensor  # until they are sent
            self._exchange(lambda: [work.wait() for work in works])
            del kept

        return wait

    def receive(self, rank: int) -> Tensor:
        """Wait for the next tensor from another process.

        Raises:
            LostRank: that does not answer.
        """
        head = torch.zeros(2 + AXES, dtype=torch.int64, device=self.device)
        self._exchange(lambda: dist.recv(head, rank))
        kind, axes, *shape = head.tolist()
        tensor = torch.empty(shape[:axes], dtype=DTYPES[kind], device=self.device)
        self._exchange(lambda: dist.recv(tensor, rank))
        return tensor

    def say(self, text: str) -> None:
        """Tell all others something; only the leader does."""
        self._told += 1
        self.store.set(f"say/{self._told}", text)
        if self._told > 2:
            self.store.delete_key(f"say/{self._told - 2}")  # each has answered what came after it

    def hear(self) -> str:
        """Wait for what the leader says next, however long, as long as it shows signs of life.

        Raises:
            LostRank: it does not.
        """
        self._told += 1
        self._wait(f"say/{self._told}")
        return self.store.get(f"say/{self._told}").decode()

    def share(self, state: State | None) -> State:
        """Give the leader's state to all; the others pass None."""
        if state is not None:
            tree, tensors, _ = flatten(state)
            shapes = [[key, list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in tensors.items()]
            self.store.set("state", json.dumps([tree, shapes]))
        else:
            self._wait("state")
            tree, shapes = json.loads(self.store.get("state"))
            tensors = {key: torch.empty(shape, dtype=getattr(torch, dtype)) for key, shape, dtype in shapes}
        for key, tensor in tensors.items():
            if tensor.numel():
                raw = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).to(self.device)
                self._exchange(lambda raw=raw: dist.broadcast(raw, 0))  # type: ignore[misc]
                tensors[key] = raw.cpu().view(tensor.dtype).reshape(tensor.shape)
        return unflatten(tree, tensors, lambda *_: None) if state is None else state

    @contextmanager
    def exchanging(self) -> Iterator[None]:
        """Within, what torch itself exchanges (FSDP) raises LostRank, too, when a process does not answer."""
        try:
            yield
        except RuntimeError as e:
            if not isinstance(e, dist.DistError) and "gloo" not in str(e):
                raise
            raise LostRank(self._missing()) from e

    def close(self) -> None:
        """Leave the group."""
        self._over.set()
        dist.destroy_process_group()

    def _exchange(self, collective: Callable[[], Any]) -> None:
        try:
            collective()
        except RuntimeError as e:  # gloo has no class of its own for it
            raise LostRank(self._missing()) from e

    def _missing(self) -> str:
        """Say who is gone or silent."""
        before = self._beats()
        time.sleep(2 * BEAT)
        after = self._beats()
        for rank in range(self.world):
            process = self.started.get(rank)
            if process is not None and process.poll() is not None:
                return f"rank {rank} {_ended(process.returncode)}"
        silent = [rank for rank in range(self.world) if rank != self.rank and before.get(rank) == after.get(rank)]
        if not silent:
            return f"the {self.world} ranks lost touch with each other within {self._patience:g} s"
        who = " and ".join(f"rank {rank} ({self._who(rank)})" for rank in silent)
        return f"{who} did not answer within {self._patience:g} s: killed, paused or cut off"

    def _who(self, rank: int) -> str:
        try:
            return self.store.get(f"who/{rank}").decode() if rank else "the leader"
        except RuntimeError:
            return "unknown"

    def _beats(self) -> dict[int, bytes]:
        try:
            ranks = [rank for rank in range(self.world) if self.store.check([f"beat/{rank}"])]
            return {rank: self.store.get(f"beat/{rank}") for rank in ranks}
        except RuntimeError:  # the leader had the store
            return dict.fromkeys(range(1, self.world), b"") if self.rank else {}

    def _beat(self, store: Store) -> None:
        number = 0
        while not self._over.wait(BEAT):
            number += 1
            try:
                store.set(f"beat/{self.rank}", str(number))
            except RuntimeError:
                return

    def _join(self, rank: int) -> None:
        """Wait until a rank has come."""
        end = time.monotonic() + JOINING
        while not self.store.check([f"who/{rank}"]):
            process = self.started.get(rank)
            if process is not None and process.poll() is not None:
                raise LostRank(f"rank {rank} {_ended(process.returncode)} before it began to learn")
            if time.monotonic() > end:
                raise LostRank(f"rank {rank} did not come within {JOINING:g} s")
            time.sleep(0.02)

    def _wait(self, key: str) -> None:
        """Wait for a key that the leader sets, as long as that lives."""
        heard, last = time.monotonic(), b""
        while True:
            try:
                self.store.wait([key], timedelta(seconds=BEAT))
                return
            except RuntimeError as e:
                now, beat = time.monotonic(), self._beats().get(0, b"")
                if beat and beat != last:
                    last, heard = beat, now
                if now - heard > self._patience or not isinstance(e, DistStoreError):
                    raise LostRank(f"rank 0, the leader, did not answer within {self._patience:g} s") from None


def _ended(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    """Variables, as torchrun sets them, for a process on this machine."""
    return {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def meet() -> tuple[int, int, Store]:
    """(rank, world, store) of a process that torchrun or a leader started.

    Raises:
        RlabError: its variables are missing or no numbers, or nobody is at the address.
    """
    try:
        rank, world, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        host = os.environ["MASTER_ADDR"]
    except (KeyError, ValueError) as e:
        raise RlabError(f"RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT must be set, as torchrun does ({e})") from None
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        store = TCPStore(
            host, port, is_master=rank == 0 and not agent, timeout=timedelta(seconds=JOINING), wait_for_workers=False
        )
    except RuntimeError as e:
        raise LostRank(f"rank {rank} found nobody at {host}:{port} ({str(e).splitlines()[0]})") from None
    return rank, world, PrefixStore(f"rlab/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
