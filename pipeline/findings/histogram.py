"""The histogram of a synthetic CT's HU in the body: for the report, the case page, and the drift."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FROM_HU: Final = -1024
STEP_HU: Final = 16
BINS: Final = 256
"""Up to 3072 HU; what lies beyond counts in the last bin."""


def histogram(inside: NDArray[np.floating]) -> dict[str, Any]:
    """Plain values: `from_hu` and `step_hu` (HU, left edge of the first bin and width of each), `counts` (voxels).

    Empty bins after the last occupied one are left out.
    """
    bins = np.clip((inside - FROM_HU) // STEP_HU, 0, BINS - 1).astype(int)
    counts = np.trim_zeros(np.bincount(bins, minlength=BINS), "b")
    return {"from_hu": FROM_HU, "step_hu": STEP_HU, "counts": counts.tolist()}
