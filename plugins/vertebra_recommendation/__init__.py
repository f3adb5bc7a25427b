"""Recommendation: what a user takes next, from the texts of items."""
