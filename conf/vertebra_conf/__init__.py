"""The core's Hydra options: one folder a group, one file an option, each saying only what differs from the defaults."""
