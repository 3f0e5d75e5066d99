"""Measurements: each beside its limit and its alternative, in one run on one machine."""
