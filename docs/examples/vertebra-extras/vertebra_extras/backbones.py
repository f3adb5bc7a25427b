from importlib import resources

from vertebra.engine.sources import BackboneSource


def find(config):
    """Return the folder of this package with a configuration and a tokenizer; weights are random, there are none."""
    return BackboneSource(str(resources.files("vertebra_extras") / "bytes"), has_weights=False)
