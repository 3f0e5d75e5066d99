"""How near a passage is to a query in meaning, on a scale that is the same for every query."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def similarity(cosines: ArrayLike) -> NDArray[np.float64]:
    """From 0, opposite, over 0.5, unrelated, to 1, the same: (1 + cosine) / 2, kept within 0 and 1.

    It depends on the query and the passage alone: not on what else is found, nor on how much is asked for.
    """
    return np.clip((1 + np.asarray(cosines, np.float64)) / 2, 0, 1)
