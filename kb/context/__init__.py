"""What was found becomes what fits a model's window."""
