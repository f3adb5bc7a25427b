"""Adapters: which part of the backbone is trained, and how that part is saved, loaded and made one with the weights."""
