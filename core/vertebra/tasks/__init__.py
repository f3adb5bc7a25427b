"""Tasks: the protocol and its families."""
