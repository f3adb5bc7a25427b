"""Whether differences are real: paired tests on the same examples, corrections, and ranks across tasks."""
