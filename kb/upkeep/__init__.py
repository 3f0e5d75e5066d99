"""Upkeep of a data folder: check, repair, backup and restore."""
