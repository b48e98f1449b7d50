"""The lab's Gymnasium ids, as somebody meets them who knows only Gymnasium."""

from __future__ import annotations

import importlib
import subprocess
import sys

import gymnasium
import pytest

import rlab.envs.ids
from rlab.envs.chains import noisy_choice
from rlab.envs.go.ids import NAMES, go_size
from rlab.envs.ids import IDS
from rlab.envs.probes import PROBES


def alone(code: str) -> str:
    """What code prints in a process of its own, where every warning is an error."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


def test_gymnasium_makes_an_id_by_package() -> None:
    assert alone("import gymnasium; print(gymnasium.make('rlab.envs:rlab/Go5-v0').unwrapped)") == "<Go<rlab/Go5-v0>>\n"


@pytest.mark.parametrize("order", ["gymnasium, rlab.envs", "rlab.envs, gymnasium"])
def test_import_registers_and_loads_no_kernels(order: str) -> None:
    loaded = "{'numba', 'torch', 'ale_py'} & set(sys.modules)"
    assert alone(f"import sys, {order}; gymnasium.make('rlab/TMaze-v0'); print({loaded})") == "set()\n"


@pytest.mark.parametrize("env_id", IDS)
def test_every_id_can_be_made(env_id: str) -> None:
    env = gymnasium.make(env_id)
    env.reset(seed=0)
    env.close()


def test_registering_twice_keeps_what_is_there() -> None:
    before = gymnasium.spec("rlab/Coin-v0")
    importlib.reload(rlab.envs.ids)  # a warning would be an error
    assert gymnasium.spec("rlab/Coin-v0") is before


def test_ids_and_their_modules_agree() -> None:
    assert set(PROBES) <= set(IDS)
    assert all(go_size(f"rlab/{name}-v0") and f"rlab/{name}-v0" in IDS for name in NAMES)
    assert gymnasium.make("rlab/NoisyChoice-v0").action_space == noisy_choice().action_space
