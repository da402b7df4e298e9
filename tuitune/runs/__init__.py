"""Runs on disk: the run directory, its manifest, and the list of runs of a workspace."""
