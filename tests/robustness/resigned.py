"""Weights and checkpoints with wrong things inside, written by Gatewise's own functions, so that checksums fit.

Whoever sends a run folder can make such files: what they hold may be any nonsense, and must end in one line or in
figures, never in a crash.
"""

import json
from pathlib import Path
from random import Random
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file

from tests.robustness.damage_formats import edit_json

VALUES = (float("nan"), float("inf"), 3e38, -3e38, 1e20, 1e-45, 0.0)


def resign(path: Path, rng: Random) -> None:
    """Change tensors or what is said of them, and write the file as Gatewise does."""
    from gatewise.artifact.run_folder import RunFolder
    from gatewise.artifact.sealed import write_arrays
    from gatewise.training.checkpoints import Checkpoint, save_checkpoint

    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["gatewise"])
    if path.parent.name == "checkpoints":
        progress = facts["progress"]
        if rng.random() < 0.5:
            progress = _other_progress(progress, rng)
        else:
            tensors = _other_tensors(tensors, rng)
        if type(progress.get("step")) is not int:  # it names the file, so that no program of ours can write another
            progress["step"] = facts["progress"]["step"]
        apart = path.parent.parent / "apart"
        save_checkpoint(apart, Checkpoint(progress, tensors)).replace(path)
        apart.rmdir()
    else:
        tensors = _other_tensors(tensors, rng)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        own = {key: value for key, value in facts.items() if key not in ("sha256", "format", "files")}
        write_arrays(path, arrays, own, RunFolder(path.parent).parts)  # the intervals stay, those of other weights


def _other_tensors(tensors: dict[str, Any], rng: Random) -> dict[str, Any]:
    import torch

    name = rng.choice(sorted(tensors))
    tensor, how = (
        tensors[name],
        rng.choice(["drop", "add", "value", "values", "shape", "one", "dtype", "transpose", "size"]),
    )
    if how == "drop":
        return {key: value for key, value in tensors.items() if key != name}
    changed = {
        "add": tensor,
        "value": tensor.flatten().index_fill(0, torch.tensor([0]), rng.choice(VALUES)).view(tensor.shape)
        if tensor.is_floating_point() and tensor.numel()
        else tensor,
        "values": tensor * rng.choice([2, -1, 0]) if tensor.numel() else tensor,
        "shape": tensor.reshape(-1),
        "one": tensor.reshape(-1)[:1],
        "dtype": tensor.to(rng.choice([torch.float64, torch.int32, torch.bool, torch.float16, torch.uint8])),
        "transpose": tensor.T.contiguous() if tensor.ndim == 2 else tensor[None],
        "size": torch.cat([tensor.reshape(-1), tensor.reshape(-1)]),
    }[how]
    key = {"add": rng.choice(["extra", "optimizer.0.x", "optimizer.99.exp_avg", "model.x", "average.9", "carried.x"])}
    return {**tensors, key.get(how, name): changed.clone()}


def _other_progress(progress: dict[str, Any], rng: Random) -> dict[str, Any]:
    changed = dict(progress)
    if rng.random() < 0.5:  # a number that counts, far from where it was
        numbers = sorted(key for key, value in progress.items() if isinstance(value, int | float))
        changed[rng.choice(numbers)] = rng.choice([-1, 0, 10**6, 10**18, 0.5, 1e308, None, True, "1", []])
        return changed
    while True:
        try:
            found = json.loads(edit_json(json.dumps(progress).encode(), rng))
        except RecursionError:  # too deep for our own reader too
            continue
        return found if isinstance(found, dict) else {}
