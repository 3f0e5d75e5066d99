"""Retrievers for other people's frameworks; each is an extra of its own, imported by nothing here."""
