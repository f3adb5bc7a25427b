"""What does not go with weights that are shared out among processes (`gpu.shard=true`), said when a run is composed."""

from __future__ import annotations

from collections.abc import Iterator

from vertebra.config.schema import AdapterConfig, BackboneConfig, GPUConfig, TrainerConfig
from vertebra.host.manager import Host
from vertebra.host.refs import OptimizerRef

WRITES = "generation"


def sharding_refusals(
    task: str, adapter: AdapterConfig, backbone: BackboneConfig, gpu: GPUConfig, trainer: TrainerConfig, host: Host
) -> Iterator[str]:
    """Yield a line for each setting that needs the whole weights in every process; the task's module is imported."""
    if not gpu.shard:
        return
    if adapter.name != AdapterConfig.name:
        yield (
            f"gpu.shard=true does not go with adapter={adapter.name}, which is saved and loaded by whole tensors. What an "
            "adapter trains is small: use gpu=ddp."
        )
    if trainer.behaviours:
        yield (
            f"gpu.shard=true does not go with trainer.behaviours=[{','.join(trainer.behaviours)}]: behaviours read and change "
            "whole parameters and gradients. Use gpu=ddp, or no behaviour."
        )
    if trainer.ewc:
        yield (
            f"gpu.shard=true does not go with trainer.ewc={trainer.ewc:g}, which needs the whole weights to find out how much "
            "each one matters. Use gpu=ddp, or trainer.l2sp."
        )
    optimizer = host.get("optimizer", trainer.optimizer)
    assert isinstance(optimizer, OptimizerRef)
    if not optimizer.sharded:
        yield (
            f"gpu.shard=true does not go with trainer.optimizer={trainer.optimizer}, which needs whole tensors. Use adamw, "
            "or gpu=ddp."
        )
    if backbone.dtype == "bfloat16":
        yield (
            "gpu.shard=true does not go with backbone.dtype=bfloat16: weights are gathered in one type, and heads are float32. "
            "Use gpu.precision=bf16, which computes in bf16 and keeps float32 weights."
        )
    if host.get("task", task).load().family == WRITES:
        yield (
            f"gpu.shard=true does not go with task={task}, which writes texts: a generator needs the whole weights. Use "
            "gpu=ddp."
        )
