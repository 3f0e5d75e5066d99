"""Many clients, several server processes that are restarted and killed: nothing acknowledged is lost."""
