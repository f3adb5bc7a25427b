"""The plugin host: references, hooks, and what is registered by whom."""
