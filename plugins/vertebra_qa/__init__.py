"""Question answering: spans of a context, and the choice among candidate answers."""
