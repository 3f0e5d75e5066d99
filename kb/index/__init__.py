"""Fast top-k, derived from the catalog: every index here can be thrown away and rebuilt."""
