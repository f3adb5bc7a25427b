"""The plugin's Hydra options."""
