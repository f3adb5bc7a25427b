"""What does not go with keeping what a backbone has learnt before, said when a run is composed."""

from __future__ import annotations

from collections.abc import Iterator

from vertebra.config.adapters import FROZEN
from vertebra.config.paths import expand
from vertebra.config.schema import AdapterConfig, BackboneConfig, TrainerConfig
from vertebra.errors import VertebraError


def keeping_refusals(
    trainer: TrainerConfig | None, adapter: AdapterConfig | None, backbone: BackboneConfig | None
) -> Iterator[str]:
    """Yield a line for each setting that stands against a pull to where the backbone began; None is what was refused before."""
    if trainer is None:
        return
    yield from _earlier_run(trainer)
    if adapter is None or backbone is None:
        return
    for name, strength in (("l2sp", trainer.l2sp), ("ewc", trainer.ewc)):
        if not strength:
            continue
        if adapter.name != AdapterConfig.name or backbone.freeze:
            yield (
                f"trainer.{name}={strength:g} keeps the backbone's weights near to where they began, and with "
                f"adapter={adapter.name if not backbone.freeze else FROZEN} they stay there. Leave one of the two out."
            )
        if backbone.init == "random":
            yield f"trainer.{name}={strength:g} does not go with backbone.init=random, which has learnt nothing to keep."


def _earlier_run(trainer: TrainerConfig) -> Iterator[str]:
    """Yield what stands against the run that `trainer.ewc_from` names."""
    if (trainer.ewc_from is None) != (trainer.ewc == 0):
        yield (
            "trainer.ewc and trainer.ewc_from are given together: how strongly weights are kept, and the folder of the run "
            "whose task they matter to."
        )
    if trainer.ewc_from is None:
        return
    from vertebra.runs.bundle_folder import open_trained

    try:
        run = open_trained(expand(trainer.ewc_from))
        about = run.read_config().get("adapter")
    except VertebraError as error:
        yield f"trainer.ewc_from={trainer.ewc_from}: {error}"
        return
    name = about.get("name") if isinstance(about, dict) else None
    if name != AdapterConfig.name or not (run.model / "backbone").is_dir():
        yield (
            f"trainer.ewc_from={trainer.ewc_from}: that run trained an adapter or a head alone (adapter={name}), and the "
            "backbone has learnt nothing by it. Name a run that trained the whole backbone."
        )
