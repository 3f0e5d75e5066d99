"""Text becomes unit vectors."""
