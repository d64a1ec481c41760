"""Calculated images: pixels that are no MR signal, by what Image Type and its companions call them (PS3.3 C.8.13.3).

A reformat (MPR, RESAMPLED), a sum or a mean of MR images still shows MR signal at true places and is taken. A map of a
quantity, a difference, a ratio or a projection does not, whatever regular stack it makes.
"""

from __future__ import annotations

from typing import Final

from pipeline.series.frame import Frame
from pipeline.series.instance import text

MAPS: Final = frozenset(
    {
        # diffusion
        *("ADC", "EADC", "EXP_ADC", "FA", "RA", "DIFFUSION_ANISO", "DIFFUSION_ATTNTD", "TENSOR", "COLFA"),
        # relaxation and fields
        *("T1 MAP", "T1_MAP", "T2 MAP", "T2_MAP", "T2_STAR_MAP", "T2STAR MAP", "R1", "R2", "R2_STAR", "R2STAR"),
        *("R2 MAP", "R2_STAR MAP", "PD MAP", "B0", "B0 MAP", "B0_MAP", "B1", "B1 MAP", "B1_MAP", "FIELD_MAP", "QSM"),
        *("FF", "FAT_FRACTION", "PDFF", "WATER_FRACTION", "VELOCITY", "VELOCITY MAP", "TEMPERATURE"),
        # perfusion and activation
        *("CBF", "RCBF", "RELCBF", "CBV", "RCBV", "RELCBV", "MTT", "RELMTT", "TTP", "TMAX", "PBP", "GBP", "KTRANS"),
        *("KEP", "IAUC", "WASH_IN", "WASH_OUT", "FMRI", "T-MAP", "T_TEST", "METABOLITE_MAPS"),
        # differences, ratios, spreads
        *("SUBTRACTION", "SUBTRACT", "SUB", "DIVISION", "STD_DEVIATION", "STDDEV"),
    }
)
"""Values of Image Type from the third on that name a quantity other than MR signal, as vendors and standard write."""

PROJECTIONS: Final = frozenset(
    {
        *("MIP", "MAX_IP", "MINIP", "MNIP", "MIN_IP", "PROJECTION IMAGE", "CSA MIP", "VOLUME_RENDER", "SURFACE_RENDER"),
        *("VRT", "CURVED_MPR", "SCREEN SAVE", "SCREENSHOT", "SCREEN CAPTURE"),
    }
)
"""Values that name a picture whose pixels are no voxels: also of Volume Based Calculation Technique (0008,9207)."""

DERIVED_PIXEL_CONTRAST: Final = frozenset({"T1", "T2", "T2_STAR", "PROTON_DENSITY", "PERFUSION"})
"""Fourth value of a multi-frame Image Type: there they are maps, as the third they are ordinary contrasts."""


def calculated(frame: Frame) -> str:
    """Return the word that says that a frame holds no MR signal, "" where none does."""
    values = frame.kind["ImageType"].upper().split("\\")[2:]
    words = [value for value in values if value in MAPS | PROJECTIONS]
    if frame.instance.is_multi_frame:
        words += [value for value in values[1:2] if value in DERIVED_PIXEL_CONTRAST]
    technique = text(frame.instance, "VolumeBasedCalculationTechnique").upper()
    distorted = text(frame.instance, "VolumetricProperties").upper() == "DISTORTED"
    words += [technique] * (technique in PROJECTIONS) + ["DISTORTED"] * distorted
    return next(iter(words), "")
