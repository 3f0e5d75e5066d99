"""One answer of a model: grounded in what was found, and cited."""
