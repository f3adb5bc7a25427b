"""Make a task bundle of a finished run, and check one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_model

import vertebra
from vertebra.config.document import to_document
from vertebra.config.schema import BackboneConfig
from vertebra.engine.adapters.adapter import adapter_name, tokenizer_fingerprint
from vertebra.engine.checkpoints import write_folder
from vertebra.engine.devices import set_up
from vertebra.errors import RunError
from vertebra.host.manager import Host
from vertebra.runs.bundle_card import write_card
from vertebra.runs.bundle_folder import BUNDLE, FORMAT, BundleFolder
from vertebra.runs.folder import RunFolder
from vertebra.runs.load import LoadedRun, gpu_config, load, load_saved, open_saved
from vertebra.runs.saved import adapter_folder, expected_base, own_heads, shape_of

KEPT = ("key", "created", "notes", "plugins", "language_model")
"""What a bundle says as its run does."""


@dataclass(frozen=True)
class Exported:
    """A new bundle."""

    folder: BundleFolder
    bytes: int
    """The size of all its files."""
    backbone: str
    """Where the backbone is that it needs."""
    own_backbone: bool
    """Whether that is a part of the run's folder."""


def export_bundle(run: Path | str, output: Path, host: Host, backbone: Path | str | None = None) -> Exported:
    """Write the bundle of a finished run into a new folder.

    The run is loaded first, so that what is written fits its backbone, which may be elsewhere by now (`backbone`).
    `RunError` for a run that trained its whole backbone, and for a folder that exists.
    """
    source = RunFolder.open(run)
    if output.exists():
        raise RunError(f"'{output}' exists already; choose a new folder.")
    if expected_base(source) is None:
        raise RunError(
            f"The run in '{source.path}' trained its whole backbone, so its task is no small part beside one. Export the model "
            f"with: vertebra export '{source.path}' FOLDER; or train with an adapter (adapter=lora) for a bundle."
        )
    saved = open_saved(source.path, host, backbone)
    loaded = load_saved(saved, set_up(gpu_config(saved, "cpu")), host)
    elsewhere = saved.own_backbone or backbone is not None
    # The backbone as a bundle finds it: not made by chance, as the run's may have been, and not where it was then.
    config = replace(saved.config, backbone=_anchored(saved.base)) if elsewhere else saved.config
    about = _describe(source, loaded, elsewhere)
    metrics = source.read_json("metrics.json")

    def fill(folder: Path) -> None:
        bundle = BundleFolder(folder)
        bundle.write_json(BUNDLE, about)
        bundle.write_json("config.json", to_document(config))
        bundle.write_json("metrics.json", metrics)
        if (source.path / "intervals.json").is_file():
            shutil.copy2(source.path / "intervals.json", folder / "intervals.json")
        (folder / "model").mkdir()
        # Of a run of several tasks these are what one of them learnt.
        save_model(own_heads(loaded.model), str(folder / "model" / "heads.safetensors"))
        learnt = RunFolder(source.model).read_json("tasks.json")
        RunFolder(folder / "model").write_json("tasks.json", {loaded.task.name: learnt[loaded.task.name]})
        if (adapter := adapter_folder(source, loaded.task.name)).is_dir():
            (folder / "model" / "adapter").mkdir()
            for file in _adapter_files(adapter):
                shutil.copy2(file, folder / "model" / "adapter" / file.name)
        bundle.write_text("README.md", write_card(about, metrics, loaded.task.state(), config))

    output.parent.mkdir(parents=True, exist_ok=True)
    write_folder(output, fill)
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    place = config.backbone.path or config.backbone.name
    return Exported(BundleFolder(output), size, place, saved.own_backbone)


def verify_bundle(folder: Path | str, host: Host, backbone: Path | str | None = None) -> LoadedRun:
    """Check every part of a bundle and that it fits its backbone; return it loaded.

    Raises `VertebraError` by the name of the broken part, or with the reason why it does not fit. A file that is no part
    of the bundle is refused, too: it would go along unseen.
    """
    bundle = open_bundle(folder)
    bundle.require_whole()
    known = {"manifest.json", *bundle.read_json("manifest.json")["files"]}
    files = (file.relative_to(bundle.path).as_posix() for file in bundle.path.rglob("*") if not file.is_dir())
    if more := sorted(name for name in files if name not in known):
        raise RunError(
            f"The bundle in '{bundle.path}' holds '{more[0]}', which is no part of it. It was not opened; remove it."
        )
    return load(bundle.path, device="cpu", host=host, backbone=backbone)


def open_bundle(folder: Path | str) -> BundleFolder:
    """Open a bundle; `RunError` where the folder holds none."""
    bundle = BundleFolder(Path(folder).expanduser())
    if not bundle.path.is_dir():
        raise RunError(f"There is no folder '{bundle.path}'.")
    if not (bundle.path / BUNDLE).is_file():
        raise RunError(
            f"'{bundle.path}' is no task bundle: it has no {BUNDLE}. Make one of a run: vertebra bundle export RUN_DIR FOLDER"
        )
    bundle.read_state()
    return bundle


def _anchored(base: BackboneConfig) -> BackboneConfig:
    """Return where a backbone is, wherever the reader is."""
    if base.path is None or not Path(base.path).is_dir():
        return base
    return replace(base, path=str(Path(base.path).absolute()))


def _describe(source: RunFolder, loaded: LoadedRun, elsewhere: bool) -> dict[str, Any]:
    """Return what `bundle.json` says; its backbone may be `elsewhere` than the run says."""
    state = source.read_state()
    backbone = loaded.model.backbone
    assert backbone.adapter is not None
    adapter: Mapping[str, Any] = state["adapter"]
    about = {key: value for key, value in state["backbone"].items() if key not in ("layers", "fingerprint")}
    if elsewhere:
        info = backbone.info
        about |= {"name": info.name, "init": info.init, "version": info.version}
    return {
        "format": FORMAT,
        "task": loaded.task.name,
        "vertebra": vertebra.__version__,
        **{key: state[key] for key in KEPT if key in state},
        "backbone": {**about, "shape": shape_of(backbone), "tokenizer": tokenizer_fingerprint(backbone)},
        "adapter": {**adapter, "name": adapter_name(loaded.config)},
    }


def _adapter_files(folder: Path) -> list[Path]:
    """Return the files of an adapter that are safetensors or JSON; others have no place in a bundle."""
    return sorted(file for file in folder.iterdir() if file.suffix in (".safetensors", ".json") and file.is_file())
