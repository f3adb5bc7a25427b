"""The engine: packing, backbones, optimizers, schedules and the training loop."""
