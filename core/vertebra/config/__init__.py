"""The configuration of a run: dataclasses, their Hydra groups, and one validation of the whole."""
