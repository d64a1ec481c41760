"""Write the model's uncertainty in HU as a Parametric Map (PS3.3 A.75), one frame for each slice of the CT.

Values are stored as 16-bit whole numbers in steps of 0.1 HU, because more receivers read these than floating point.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.uid import ParametricMapStorage

from pipeline.companions.companion import CtSeries, of_highdicom, of_the_ct, stand_ins
from pipeline.ct.elements import file_bytes

STEP_HU: Final = 0.1
"""HU of one step of the stored values."""
LARGEST: Final = 65535
"""Largest stored value; a larger standard deviation is stored as this."""
WINDOW_HU: Final = (100.0, 200.0)
"""Centre and width of the window in which viewers show the map first (PS3.3 C.11.2.1.2)."""


def parametric_map(ct: CtSeries, sd: NDArray[np.floating]) -> bytes:
    """Encode the file of a standard deviation in HU, shape (slice, row, column) on the CT's grid.

    Raises ValueError for values that are NaN, infinite or below 0.
    """
    if not np.isfinite(sd).all() or (sd < 0).any():
        raise ValueError("the uncertainty holds values that are no finite numbers, or below 0")
    stored: NDArray[np.uint16] = np.minimum(np.rint(sd / STEP_HU), LARGEST).astype(np.uint16)
    mapping = RealWorldValueMapping(  # stored values to HU (PS3.3 C.7.6.16.2.11)
        lut_label="SD_HU",
        lut_explanation="Standard deviation of the synthetic CT in HU",
        unit=codes.UCUM.HounsfieldUnit,
        value_range=(0, LARGEST),
        slope=STEP_HU,
        intercept=0.0,
        quantity_definition=codes.SCT.StandardDeviation,
    )
    companion = of_the_ct(ct, "uncertainty", stored.tobytes())
    made = ParametricMap(
        source_images=stand_ins(ct),
        pixel_array=stored,
        series_instance_uid=companion.series_uid,
        series_number=companion.series_number,
        sop_instance_uid=companion.sop_instance_uid,
        instance_number=1,
        **companion.equipment(),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation(WINDOW_HU[0] / STEP_HU, WINDOW_HU[1] / STEP_HU)],
        content_label="SCT_UNCERTAINTY",
        content_description="Standard deviation of the HU of the synthetic CT",
        content_qualification="RESEARCH" if ct.research else "PRODUCT",
    )
    return file_bytes(
        ParametricMapStorage,
        companion.sop_instance_uid,
        of_highdicom(companion, made, "BodyPartExamined", "Laterality"),
    )
