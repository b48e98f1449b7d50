"""Weights out of a .zip that stable-baselines3 saved, and nothing else out of it: never a pickle."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlab.errors import RlabError

ZIP_BYTES = 1 << 30
"""The largest weights that are read out of a .zip."""

PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
"""What a policy's weights and counters may be made of."""


def import_zip(path: Path) -> dict[str, Tensor]:
    """Read the policy's weights out of a .zip that stable-baselines3 saved.

    Only the member ``policy.pth`` is opened, as tensors (``torch.load(weights_only=True)``). The rest of such a file
    holds pickled objects, which could run anything; it is not read.

    Raises:
        RlabError: there is no such file, it is no such .zip, or its weights are not plain tensors.
    """
    try:
        if path.exists() and not path.is_file():  # a device would never end
            raise RlabError(f"{path} is no file")
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("policy.pth")
            if max(member.file_size, path.stat().st_size) > ZIP_BYTES:
                raise RlabError(f"{path}: policy.pth would take {member.file_size:,} bytes; at most {ZIP_BYTES:,} are "
                                "read of it and of the file")  # fmt: skip
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # unpacked without a limit
                raise NotImplementedError("it is packed in an unusual way")
            content = archive.read(member)
    except KeyError:
        raise RlabError(f"{path} holds no policy.pth: it is cut short, or stable-baselines3 did not save it") from None
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as e:
        raise RlabError(f"{path} cannot be read as a .zip of stable-baselines3 ({e})") from None
    try:
        with warnings.catch_warnings(action="ignore"), tempfile.NamedTemporaryFile(suffix=".pth") as file:
            file.write(content)
            file.flush()
            # Mapped, a tensor cannot be larger than what the file holds of it, whatever it says of itself.
            weights = torch.load(file.name, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever a hostile file provokes; torch's own words advise to load it all the same
        raise RlabError(
            f"{path}: policy.pth holds more than weights, which could run anything, or is damaged; nothing was loaded"
        ) from None
    if not isinstance(weights, dict) or not all(isinstance(k, str) and _is_plain(t) for k, t in weights.items()):
        raise RlabError(f"{path}: policy.pth is not a table of names and finite tensors; nothing was loaded")
    return weights


def _is_plain(value: Any) -> bool:
    """Whether it is a tensor whose numbers are there, and can be copied into another."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.dtype in PLAIN
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()  # its rows are not one, repeated
        and bool(value.isfinite().all())
    )


def load_weights(model: Any, weights: dict[str, Tensor], name: str) -> None:
    """Put weights into a policy.

    Raises:
        RlabError: they belong to another network; the message names the first difference.
    """
    own = model.policy.state_dict()
    for key in sorted(set(own) | set(weights)):
        ours, theirs = own.get(key), weights.get(key)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            shapes = ["missing" if t is None else list(t.shape) for t in (theirs, ours)]
            raise RlabError(
                f"the weights in {name} belong to another network: '{key}' is {shapes[0]} there and {shapes[1]} here; "
                "nearest: --encoder sb3, with --hidden as it was trained"
            )
    model.policy.load_state_dict(weights)
