"""One file per noun; each has a `routes` router."""
