"""Checkpoints of a model that is shared out among processes: each writes the rows that it holds.

    weights-00000-of-00002.safetensors     the rows of every parameter; the first file has what is not shared out, too
    optimizer-00000-of-00002.safetensors   the rows of what the optimizer keeps of each parameter
    optimizer.json                         its groups, by the parameters' names, and what it keeps beside tensors
    state.json, manifest.json              as in any checkpoint

A parameter is the rows of all files, one behind the other, so any number of processes can read what some number wrote.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vertebra.engine.checkpoints import UNUSABLE, Checkpoints, file_hash, is_whole, read_manifest, seal, short_reason
from vertebra.engine.devices import Devices
from vertebra.errors import RunError

WEIGHTS, OPTIMIZER = "weights", "optimizer"
ABOUT = "optimizer.json"


class ShardedCheckpoints(Checkpoints):
    """The checkpoints of one run in several processes; every process must come to each method, but to `hashes` and `clear`."""

    def __init__(self, folder: Path, keep: int, devices: Devices) -> None:
        super().__init__(folder, keep)
        self.devices = devices

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> Path:
        """Write the checkpoint of a step, each process its part."""

        def describe(folder: Path) -> None:
            (folder / ABOUT).write_text(json.dumps(_about(model, optimizer)), encoding="utf-8")
            (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")

        place = self._step(step)
        parts = {WEIGHTS: dict(_tensors(model)), OPTIMIZER: _moments(model, optimizer, Tensor)}
        self._write_together(place, parts, describe)
        return place

    def save_best(self, step: int, model: nn.Module) -> None:
        """Write the best weights so far, each process its part."""
        place = self._best(step)
        if not self._is_whole(place):
            self._write_together(place, {WEIGHTS: dict(_tensors(model))}, lambda _: None)

    def forget(self, best_step: int) -> None:
        """Remove what is no longer needed: all but the latest checkpoints and the best weights."""
        if self.devices.accelerator.is_main_process:
            super().forget(best_step)

    def load_newest(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Take up this process's part of the newest whole checkpoint and return its state; None where there is none."""
        names = json.loads(self.devices.from_main(json.dumps([place.name for place in self._steps()])))
        place = next((place for name in reversed(names) if self._is_whole(place := self.folder / name)), None)
        if place is None:
            return None
        found = place
        self._all_or_none(lambda: read_part(found, model, optimizer), f"The checkpoint in '{place}'")
        return dict(json.loads((place / "state.json").read_text(encoding="utf-8")))

    def load_best(self, step: int, model: nn.Module) -> None:
        """Put this process's part of the weights of the best step into the model."""
        place = self._best(step)
        if not self._is_whole(place):
            raise RunError(f"The best weights in '{place}' are damaged or missing; start the run again.")
        self._all_or_none(lambda: read_part(place, model), f"The best weights in '{place}'")

    def hashes(self, best_step: int) -> dict[str, str]:
        """Return the SHA-256 of the weights' files, one behind the other, of the last step and of the best one."""
        places = {"last": self._steps()[-1:], "best": [self._best(best_step)]}
        return {
            name: sha256("".join(_hashes_of_weights(place)).encode()).hexdigest()
            for name, found in places.items()
            for place in found
            if place.exists()
        }

    def _write_together(
        self, place: Path, parts: Mapping[str, dict[str, Tensor]], describe: Callable[[Path], None]
    ) -> None:
        """Make the folder `place` of the parts of all processes and what `describe` adds; all of it or nothing."""
        rank, processes = self.devices.accelerator.process_index, self.devices.accelerator.num_processes
        aside = place.with_name(f".{place.name}.tmp")
        hashes: dict[str, str] = {}

        def prepare() -> None:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)

        def write() -> None:
            for kind, tensors in parts.items():
                file = aside / f"{kind}-{rank:05d}-of-{processes:05d}.safetensors"
                # What is not shared out is the same everywhere.
                mine = {name: one for name, one in tensors.items() if rank == 0 or isinstance(one, DTensor)}
                save_file({name: _local(one).cpu().contiguous() for name, one in mine.items()}, str(file))
                hashes[file.name] = file_hash(file)

        def finish() -> None:
            describe(aside)
            hashes.update((file.name, file_hash(file)) for file in aside.iterdir() if file.suffix == ".json")
            shutil.rmtree(place, ignore_errors=True)
            seal(aside, place, hashes)

        try:
            self._main(prepare, place)
            self._attempt(write, place)
            hashes.update(dict(one for found in gather_object([list(hashes.items())]) for one in found))
            self._main(finish, place)
        finally:
            if self.devices.accelerator.is_main_process:
                shutil.rmtree(aside, ignore_errors=True)

    def _main(self, act: Callable[[], None], place: Path) -> None:
        self._attempt(act if self.devices.accelerator.is_main_process else lambda: None, place)

    def _attempt(self, act: Callable[[], None], place: Path) -> None:
        """Do something in each process; where it fails in one, fail in all of them, so that none waits for another."""
        failed: Exception | None = None
        try:
            act()
        except (OSError, SafetensorError, RuntimeError) as error:
            failed = error
        if self.devices.agree(failed is not None):
            reason = short_reason(failed) if failed else "another process could not"
            raise RunError(
                f"Cannot write '{place}': {reason}. What was written before is intact: make room and resume the run."
            ) from failed

    def _all_or_none(self, read: Callable[[], None], what: str) -> None:
        failed: Exception | None = None
        try:
            read()
        except UNUSABLE as error:
            failed = error
        if self.devices.agree(failed is not None):
            reason = short_reason(failed) if failed else "another process could not read it"
            raise RunError(f"{what} cannot be used by this run: {reason}.") from failed

    def _is_whole(self, place: Path) -> bool:
        """Whether a folder is whole; the processes share its files out among themselves."""
        rank, processes = self.devices.accelerator.process_index, self.devices.accelerator.num_processes
        return not self.devices.agree(not is_whole(place, part=(rank, processes)))


def read_part(place: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Put into the model and the optimizer what this process holds of a sharded checkpoint: its rows, or everything.

    Raises one of `UNUSABLE` where names or shapes are others.
    """
    weights = Shards(place, WEIGHTS)
    wanted = dict(_tensors(model))
    if weights.names != set(wanted):
        raise ValueError(f"it has not the same parameters ({sorted(weights.names ^ set(wanted))[0]})")
    with torch.no_grad():
        for name, tensor in wanted.items():
            _local(tensor).copy_(weights.read(name, like=tensor))
    if optimizer is not None:
        _read_moments(place, model, optimizer)


class Shards:
    """Tensors whose rows lie in several files, those of the first process first."""

    def __init__(self, place: Path, kind: str) -> None:
        files = sorted(place.glob(f"{kind}-*.safetensors"))
        self._files: list[Any] = [safe_open(str(file), "pt") for file in files]
        if not self._files:
            raise FileNotFoundError(f"there is no {kind}-*.safetensors in '{place}'")
        self.names = {name for file in self._files for name in file.keys()}  # noqa: SIM118  (a file is no mapping)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a whole tensor."""
        shapes = [part.get_shape() for part in self._slices(name)]
        return (sum(shape[0] for shape in shapes), *shapes[0][1:]) if shapes[0] else ()

    def read(self, name: str, like: Tensor | None = None) -> Tensor:
        """Return a tensor: all of it or, where `like` is shared out among processes, this process's rows of it."""
        if like is not None and tuple(like.shape) != self.shape(name):
            raise ValueError(f"'{name}' is {list(self.shape(name))}, and should be {list(like.shape)}")
        parts = self._slices(name)
        if not self.shape(name):  # a number, which has no rows
            number: Tensor = self._files[0].get_tensor(name)
            return number
        ends = list(accumulate((part.get_shape()[0] for part in parts), initial=0))
        first, behind = _rows_of(like) if isinstance(like, DTensor) else (0, ends[-1])
        found = [
            part[max(first, start) - start : min(behind, end) - start]
            for part, (start, end) in zip(parts, pairwise(ends), strict=True)
            if max(first, start) < min(behind, end)
        ]
        return torch.cat(found) if found else parts[0][0:0]

    def _slices(self, name: str) -> list[Any]:
        return [file.get_slice(name) for file in self._files if name in file.keys()]  # noqa: SIM118


def _rows_of(tensor: DTensor) -> tuple[int, int]:
    """Return the first of this process's rows and the one behind its last: equal parts, the last ones may be smaller."""
    mesh = tensor.device_mesh
    rows = -(-tensor.shape[0] // mesh.size())
    first = min(tensor.shape[0], rows * mesh.get_local_rank())
    return first, first + len(tensor.to_local())


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what is saved of a model, each tensor once."""
    yield from model.named_parameters()
    kept = model.state_dict(keep_vars=True)
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in kept)


def _local(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, over the same memory."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer, *types: type) -> dict[str, Any]:
    """Return what of these types an optimizer keeps of each parameter."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{kind}": value
        for parameter, state in optimizer.state.items()
        for kind, value in state.items()
        if isinstance(value, types)
    }


def _read_moments(place: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    about, moments = json.loads((place / ABOUT).read_text(encoding="utf-8")), Shards(place, OPTIMIZER)
    parameters = dict(model.named_parameters())
    for group, saved in zip(optimizer.param_groups, about["groups"], strict=True):
        if [id(one) for one in group["params"]] != [id(parameters[name]) for name in saved.pop("params")]:
            raise ValueError("its optimizer has not the same groups of parameters")
        group.update({name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()})
    for key, value in about["values"].items():
        name, kind = key.rsplit("/", 1)
        optimizer.state[parameters[name]][kind] = value
    for key in sorted(moments.names):
        name, kind = key.rsplit("/", 1)
        parameter = parameters[name]
        state = optimizer.state[parameter]
        if moments.shape(key) == tuple(parameter.shape):
            state[kind] = torch.zeros_like(parameter)
            _local(state[kind]).copy_(moments.read(key, like=state[kind]))
        else:
            state[kind] = moments.read(key).to(parameter.device)


def _about(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = [{**group, "params": [names[one] for one in group["params"]]} for group in optimizer.param_groups]
    return {"groups": groups, "values": _moments(model, optimizer, bool, int, float, str, type(None))}


def _hashes_of_weights(place: Path) -> Sequence[str]:
    with suppress(OSError, ValueError, KeyError):
        return [value for name, value in sorted(read_manifest(place).items()) if name.startswith(WEIGHTS)]
    return []
