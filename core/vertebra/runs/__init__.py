"""Runs: carrying one out, its folder, and loading what it left."""
