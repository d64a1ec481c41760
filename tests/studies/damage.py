"""Ways in which an MR goes wrong before it reaches the node, each a formula with seeded draws.

Axes (slice, row, column) along +S, +P, +L; values in the scanner's unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.data.body import outline

Image = NDArray[np.float32]
Damage = Callable[[Image, tuple[float, float, float], np.random.Generator], Image]
"""(MR, its spacing in mm, draws) -> the damaged MR on the same grid."""

VOID_MM: Final = 15.0
"""Radius of the void about a piece of metal."""
PILE_UP_MM: Final = 3.0
"""Thickness of the bright rim where the displaced signal piles up."""


def _bright(mr: Image) -> float:
    """What counts as full signal: the 99th percentile of the body."""
    return float(np.percentile(mr[outline(mr)], 99))


def metal_void(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """No signal within 15 mm of a place well inside the body, and piled-up signal around."""
    depth = ndimage.distance_transform_edt(np.pad(outline(mr), 1), spacing_mm)[1:-1, 1:-1, 1:-1]
    deep = np.argwhere(depth > min(VOID_MM + 5, 0.9 * depth.max()))
    place = deep[draws.integers(len(deep))]
    away = np.sqrt(
        sum(
            ((axis - p) * mm) ** 2
            for axis, p, mm in zip(np.ogrid[tuple(map(slice, mr.shape))], place, spacing_mm, strict=True)
        )
    )
    rim = np.where(away < VOID_MM + PILE_UP_MM, np.maximum(mr, 1.5 * _bright(mr)), mr)
    return np.where(away < VOID_MM, 0.02 * mr, rim).astype(np.float32)


def motion_ghost(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """Copies at thirds of the field along the rows, each with a fifth of the signal, as of pulsation or breathing."""
    third = mr.shape[1] // 3
    ghosts = 0.2 * np.roll(mr, third, axis=1) - 0.2 * np.roll(mr, -third, axis=1)
    return np.asarray(np.abs(mr + ghosts), np.float32)


def moved_between_slices(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """Every other slice was taken after the patient had moved by 6 mm: an interleaved sequence."""
    moved = mr.copy()
    step = round(6.0 / spacing_mm[2])
    moved[1::2] = np.roll(mr[1::2], step, axis=2)
    return moved


def truncated_field(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """The coil sees nothing of the last third of the body's width."""
    columns = np.flatnonzero(outline(mr).any(axis=(0, 1)))
    cut = mr.copy()
    cut[:, :, columns[0] + round(0.67 * len(columns)) :] = 0
    return cut


def fat_suppressed(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """What shines on T1, fat and marrow, is dark; muscle is as it was."""
    full = _bright(mr)
    relative = mr / full
    return (full * np.where(relative > 0.45, np.maximum(0.9 - relative, 0.08), relative)).astype(np.float32)


def t2_like(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """Muscle and fat change places in brightness; what has no signal has none."""
    full = _bright(mr)
    relative = np.clip(mr / full, 0, 1)
    return np.asarray(full * np.where(relative > 0.12, 1.15 - relative, relative), np.float32)


def noisy(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """Rician noise of a tenth of full signal."""
    sd = 0.10 * _bright(mr)
    real, imaginary = draws.normal(0, sd, (2, *mr.shape))
    return np.asarray(np.hypot(mr + real, imaginary), np.float32)


def shaded(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """A surface coil: the signal falls to an eighth from front to back."""
    fall = np.linspace(0, np.log(8.0), mr.shape[1], dtype=np.float32)[None, :, None]
    return (mr * np.exp(-fall)).astype(np.float32)


def upside_down(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """Front and back exchanged while the header says otherwise."""
    return np.ascontiguousarray(mr[:, ::-1])


def left_for_right(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """Left and right exchanged while the header says otherwise."""
    return np.ascontiguousarray(mr[:, :, ::-1])


def rescaled(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """One wrong slope for all slices: three times the values."""
    return (3.0 * mr).astype(np.float32)


def offset(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """A wrong intercept: a quarter of full signal is added everywhere."""
    return (mr + 0.25 * _bright(mr)).astype(np.float32)


def rescaled_by_slice(mr: Image, spacing_mm: tuple[float, float, float], draws: np.random.Generator) -> Image:
    """Each slice's own slope is ignored: factors of 0.5 to 2 from slice to slice."""
    return (mr * np.exp(draws.uniform(-np.log(2), np.log(2), (len(mr), 1, 1)))).astype(np.float32)


DAMAGES: Final[Mapping[str, Damage]] = {
    "metal void": metal_void,
    "motion ghost": motion_ghost,
    "moved between slices": moved_between_slices,
    "truncated field": truncated_field,
    "fat suppressed": fat_suppressed,
    "T2-like contrast": t2_like,
    "noise": noisy,
    "coil shading": shaded,
    "flipped front to back": upside_down,
    "left and right swapped": left_for_right,
    "wrong slope": rescaled,
    "wrong intercept": offset,
    "slopes of slices ignored": rescaled_by_slice,
}
"""Name -> damage."""
