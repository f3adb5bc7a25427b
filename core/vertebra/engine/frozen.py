"""A frozen backbone: its hidden states are computed once, and training and evaluation read them.

Only the positions that the features name are kept. The backbone runs in evaluation mode, so nothing of it is dropped.

Letters: P positions that a head reads, D hidden width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pluggy
import torch
import transformers

from vertebra import __version__
from vertebra.data.encode import with_progress
from vertebra.engine.backbone import Backbone
from vertebra.engine.devices import Devices
from vertebra.engine.hidden_cache import HiddenCache, in_memory
from vertebra.engine.packing import cut, pack
from vertebra.errors import ConfigError
from vertebra.tasks.features import Features, Hidden


class FrozenReader:
    """Reads features with a backbone that is never trained."""

    def __init__(self, backbone: Backbone, devices: Devices, cache: HiddenCache | None) -> None:
        """Take where hidden states are kept; None keeps them in memory alone."""
        self.backbone, self.devices, self.cache = backbone, devices, cache
        self._identity = _identity(backbone, devices)

    def read(
        self, features: Sequence[Features], title: str = "reading", *, for_evaluation: bool = False
    ) -> list[Features]:
        """Return the features with their hidden states (P, D); `title` stands before the progress bar.

        They are computed in what training computes in, or `for_evaluation` in what evaluation does.
        """
        dtype = self.devices.evaluation_dtype if for_evaluation else self.devices.training_dtype
        ordered = sorted(range(len(features)), key=lambda number: len(features[number]), reverse=True)
        counts = [len(features[number].positions) for number in ordered]
        shape = (sum(counts), self.backbone.width)

        def compute() -> Iterator[Hidden]:
            return self._compute(features, title, dtype)

        if self.cache is None:
            hidden_PD = in_memory(shape, compute())
        else:
            hidden_PD = self.cache.get_or_compute(self._key(features, dtype), shape, compute)
        read = list(features)
        stops = np.cumsum(counts).tolist()
        for number, count, stop in zip(ordered, counts, stops, strict=True):
            read[number] = replace(features[number], hidden=hidden_PD[stop - count : stop])
        return read

    @torch.no_grad()
    def _compute(self, features: Sequence[Features], title: str, dtype: torch.dtype | None) -> Iterator[Hidden]:
        """Yield the hidden states at the features' positions, the longest sequences first, a pass at a time."""
        self.backbone.eval()
        assert isinstance(self.devices.config.token_budget, int)
        padded = self.backbone.info.packing == "padded"
        device = self.devices.accelerator.device
        with self.backbone.prepacked(dtype):
            for piece in with_progress(cut(features, self.devices.config.token_budget, padded=padded), title):
                batch = pack(piece, lambda _: None).to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=dtype is not None):
                    hidden_PD = self.backbone(batch)
                yield hidden_PD.float().cpu().numpy()

    def _key(self, features: Sequence[Features], dtype: torch.dtype | None) -> str:
        digest = hashlib.blake2b(f"{self._identity} {dtype}".encode(), digest_size=16)
        for one in features:
            digest.update(np.asarray([len(one), len(one.positions)], dtype=np.int64).tobytes())
            digest.update(one.input_ids.tobytes())
            digest.update(one.positions.tobytes())
            digest.update((one.attention or "").encode())
        return digest.hexdigest()


def refuse_behaviours(behaviours: pluggy.PluginManager) -> None:
    """Raise `ConfigError` for a behaviour that acts on the backbone's pass: there is none in training."""
    for hook in (behaviours.hook.forward_starting, behaviours.hook.backward_ended):
        for found in hook.get_hookimpls():
            raise ConfigError(
                f"trainer.behaviours={found.plugin_name} acts on the backbone's part of a step ({hook.name}), and with "
                "backbone.freeze=true the backbone has none. Leave one of the two out."
            )


def _identity(backbone: Backbone, devices: Devices) -> str:
    """Return all that decides the hidden states of a token, down to the last bit, beside the type they are computed in."""
    info = backbone.info
    return json.dumps(
        {
            "weights": _fingerprint(backbone),
            "configuration and tokenizer": info.fingerprint,
            "attention": info.attention,
            "packing": info.packing,
            "layer": "last",
            "devices": {**asdict(devices.config), "processes": None, "precision": None, "evaluation_precision": None},
            "versions": [__version__, torch.__version__, transformers.__version__],
            "code": [
                hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(__file__).parent.rglob("*.py"))
            ],
        },
        sort_keys=True,
    )


def _fingerprint(backbone: Backbone) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
