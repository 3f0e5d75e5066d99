"""The one choke point for model calls: nothing reaches a model unmetered."""
