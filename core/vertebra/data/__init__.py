"""Data: readers of every format, splits, and the cache of encoded features."""
