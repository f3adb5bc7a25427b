"""A small backbone with random weights, in a folder as if it had been trained."""

from __future__ import annotations

from pathlib import Path

import vertebra
from vertebra.config.schema import BackboneConfig
from vertebra.engine.loading import load_backbone
from vertebra.engine.model import TaskModel
from vertebra.runs.saved import save_backbone

SMALL = {"n_layer": 2, "n_embd": 32, "n_head": 2}


def make_base(folder: Path, seed: int = 7, **shape: int) -> Path:
    """Write a model folder with weights, as if they had been trained."""
    config = BackboneConfig(init="random", config=SMALL | shape)
    backbone = load_backbone(config, vertebra.create_host(), seed=seed, language_model=True)
    save_backbone(TaskModel(backbone, {}), folder)
    return folder
