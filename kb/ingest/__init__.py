"""Bytes become searchable."""
