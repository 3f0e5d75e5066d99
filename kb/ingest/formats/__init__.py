"""One file per family of formats: bytes in, a Draft out. `kb.ingest.parse` holds the table of them."""
