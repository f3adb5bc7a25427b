"""Translation: the same text in another language."""
