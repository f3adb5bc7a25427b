"""Suites: tasks, systems and seeds that are run together and compared."""
