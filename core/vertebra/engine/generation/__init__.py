"""Generation: many requests at once through one stream of tokens and one cache of keys and values."""
