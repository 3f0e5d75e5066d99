"""Language models: what they are, and what they cost."""
