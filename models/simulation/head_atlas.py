"""Heads as label maps, from voxel models and from real CT: what each voxel holds.

DATA/atlas holds colin27, with a real T1 besides, and voxel models of the A. A. Martinos Center; DATA/ct two real CT of
heads, which become label maps by their HU and keep them. Axes (slice, row, column), along +S, +P, +L.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage
from scipy.io import loadmat

from models.data.intensity import AIR_HU
from models.data.pairs import read_nifti, values_of
from models.data.patients import at_spacing

Labels = NDArray[np.uint8]
Image = NDArray[np.float32]


class HeadTissue(IntEnum):
    """The tissue of a voxel."""

    AIR = 0
    SOFT = 1
    FAT = 2
    MUSCLE = 3
    WHITE = 4
    GREY = 5
    CSF = 6
    TABLE = 7
    DIPLOE = 8
    TEETH = 9
    EYE = 10
    MASTOID = 11


TABLE_MM: Final = 1.6
"""Thickness of the tables of a skull whose label map does not tell them from the diploe."""
DURA_MM: Final = 5.0
"""Width of the folds of the dura, and how far bone may reach into the brain."""
CORTEX_MM: Final = 3.0
"""Thickness of the grey matter where the label map knows one brain."""
HEAD_MM: Final = 230.0
"""What is kept of a label map that reaches down to the chest, from the vertex."""
CT_MM: Final = 1.5
"""Voxels of the real CT's label maps."""
BY_HU: Final[Mapping[HeadTissue, float]] = {
    HeadTissue.FAT: -250,
    HeadTissue.MUSCLE: -25,
    HeadTissue.DIPLOE: 180,
    HeadTissue.TABLE: 650,
    HeadTissue.TEETH: 1900,
}
"""Lowest HU of the tissues that a CT tells apart."""


@dataclass(frozen=True)
class Atlas:
    """A head.

    Attributes:
        name: of the pairs that are made of it.
        labels: what each voxel holds.
        spacing_mm: (slice, row, column).
        mr: a real T1, where there is one.
        hu: a real CT, where there is one.
    """

    name: str
    labels: Labels
    spacing_mm: tuple[float, float, float]
    mr: Image | None = None
    hu: Image | None = None


def read_atlases(data: Path) -> list[Atlas]:
    """The heads below a folder of data; colin27 twice, with its T1 and without.

    Raises:
        BadPair: a file cannot be read.
    """
    colin = _colin(data / "atlas" / "colin27")
    models = data / "atlas" / "martinos_head_phantoms"
    heads = [_mat(models / f"{name}.mat", *KEYS[name]) for name in KEYS]
    return [colin, Atlas("colin", colin.labels, colin.spacing_mm), *heads, *real_ct(data / "ct")]


def real_ct(folder: Path) -> list[Atlas]:
    """The heads of which there is a CT."""
    cranium = SimpleITK.DICOMOrient(
        SimpleITK.ReadImage(str(folder / "invesalius_cranium" / "cranium_ct_HU.nii.gz")), "LPS"
    )
    with tempfile.TemporaryDirectory() as unpacked:
        with tarfile.open(folder / "toshiba_aquilion_head_ct.tar.xz") as tar:
            tar.extractall(unpacked, filter="data")
        series = next(path.parent for path in sorted(Path(unpacked).rglob("*.dcm")))
        names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))
        toshiba = SimpleITK.ReadImage(names, SimpleITK.sitkInt16)
    return [_of_ct("cranium", cranium), _of_ct("toshiba", toshiba)]


def _of_ct(name: str, image: SimpleITK.Image) -> Atlas:
    """A head by its HU, at CT_MM: bone by density, brain by what the skull encloses."""
    raw, _ = values_of(at_spacing(image, (CT_MM, CT_MM, CT_MM), SimpleITK.sitkLinear))
    closed = ndimage.binary_closing(_largest(raw > -300), iterations=3)
    body = np.stack([ndimage.binary_fill_holes(one) for one in closed])
    hu = np.where(body, np.maximum(raw, AIR_HU), AIR_HU).astype(np.float32)
    solid = body & (hu > BY_HU[HeadTissue.FAT])
    labels = np.full(hu.shape, HeadTissue.AIR, np.uint8)
    smooth = _smooth_within(hu, solid)
    for tissue, lowest in BY_HU.items():
        labels[solid & (smooth > lowest)] = tissue
    brain, blurred = _brain(labels), ndimage.gaussian_filter(hu, 2.0)
    for tissue, lowest in ((HeadTissue.CSF, -100), (HeadTissue.WHITE, 18), (HeadTissue.GREY, 33)):
        labels[brain & (blurred > lowest)] = tissue
    return Atlas(name, sound(labels), (CT_MM,) * 3, hu=hu)


def _smooth_within(hu: Image, where: NDArray[np.bool_]) -> Image:
    """A CT smoothed by an SD of one voxel over what is there, so that air beside it does not count."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), 1.0)
    return np.asarray(ndimage.gaussian_filter(hu * where, 1.0) / np.maximum(weight, 1e-3), np.float32)


def sound(labels: Labels) -> Labels:
    """Labels by HU without what voxels that hold two things pretend: fat beside air, marrow at the edge of bone."""
    made = labels.copy()
    beside = ndimage.binary_dilation(labels == HeadTissue.AIR)
    made[beside & (labels == HeadTissue.FAT)] = HeadTissue.SOFT
    bone = (labels == HeadTissue.TABLE) | (labels == HeadTissue.DIPLOE)
    edge = ndimage.distance_transform_edt(bone, sampling=CT_MM) <= TABLE_MM
    made[edge & (labels == HeadTissue.DIPLOE)] = HeadTissue.TABLE
    return made


def _brain(labels: Labels) -> NDArray[np.bool_]:
    """Soft tissue that hangs together with what the vault encloses, by more than the skull's foramina let through."""
    soft = labels == HeadTissue.MUSCLE
    core = ndimage.binary_erosion(soft, iterations=round(6 / CT_MM))
    parts, _ = ndimage.label(core)
    inmost = int(np.argmax(np.bincount(parts[_vault(labels) & core], minlength=2)))
    return np.asarray(soft & ndimage.binary_dilation(core & (parts == inmost), iterations=round(9 / CT_MM)))


def _vault(labels: Labels) -> NDArray[np.bool_]:
    """Return the inside of the skull in the upper 60 mm of a head, where it is closed in every slice."""
    bone = labels >= HeadTissue.TABLE
    top = int(np.flatnonzero(bone.any(axis=(1, 2)))[-1])
    inside = np.zeros_like(bone)
    for number in range(max(top - round(60 / CT_MM), 0), top):
        inside[number] = ndimage.binary_fill_holes(bone[number]) & ~bone[number]
    return inside


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part of a mask."""
    parts, count = ndimage.label(mask)
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))) if count else mask


def _colin(folder: Path) -> Atlas:
    """Label map and T1 of one person, 1 mm."""
    labels, spacing_mm = read_nifti(folder / "colin27_v3_labels_in_ch2_space.nii.gz")
    t1 = read_nifti(folder / "ch2.nii.gz")[0].astype(np.float32)
    soft, cavity = HeadTissue.SOFT, HeadTissue.AIR
    key = {
        0: HeadTissue.AIR,
        1: soft,
        2: HeadTissue.TABLE,
        3: HeadTissue.CSF,
        4: HeadTissue.GREY,
        5: HeadTissue.WHITE,
        6: cavity,
    }
    made = _renamed(labels.astype(np.uint8), key)
    made[within_brain(made, spacing_mm) & (made == HeadTissue.TABLE)] = HeadTissue.CSF  # vessels and folds of the dura
    return Atlas("colin-t1", refined(made, spacing_mm), spacing_mm, t1)


def within_brain(labels: Labels, spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Return the volume that brain and fluid enclose, without its outermost `DURA_MM`."""
    brain = np.isin(labels, (HeadTissue.WHITE, HeadTissue.GREY, HeadTissue.CSF))
    steps = round(DURA_MM / min(spacing_mm))
    hull = ndimage.binary_closing(np.pad(brain, steps), iterations=steps)
    filled = ndimage.binary_fill_holes(hull)[(slice(steps, -steps),) * 3]
    return np.asarray(ndimage.binary_erosion(filled, iterations=steps))


def _mat(path: Path, variable: str, spacing_mm: float, turn: Callable[[Labels], Labels], key: Key) -> Atlas:
    """A voxel model in MATLAB's format."""
    labels = np.ascontiguousarray(turn(loadmat(path)[variable]))
    steps = (spacing_mm, spacing_mm, spacing_mm)
    return Atlas(path.stem, refined(_cropped(_renamed(labels, key), spacing_mm), steps), steps)


Key = Mapping[int, HeadTissue]


def _renamed(labels: Labels, key: Key) -> Labels:
    """A label map in our tissues; what the key does not name is soft tissue."""
    table = np.full(256, HeadTissue.SOFT, np.uint8)
    for label, tissue in key.items():
        table[label] = tissue
    return np.asarray(table[labels])


def _cropped(labels: Labels, spacing_mm: float, margin: int = 8) -> Labels:
    """The head with some air around it, without the chest."""
    top = int(np.flatnonzero((labels != HeadTissue.AIR).any(axis=(1, 2)))[-1])
    labels = labels[max(top - round(HEAD_MM / spacing_mm), 0) :]
    box = ndimage.find_objects((labels != HeadTissue.AIR).astype(np.uint8))[0]
    return np.pad(labels[box], ((0, margin), (margin, margin), (margin, margin)))


def refined(labels: Labels, spacing_mm: tuple[float, float, float]) -> Labels:
    """Split what the label map holds as one: fat below the skin, tables of the skull."""
    made = labels.copy()
    if not (labels == HeadTissue.FAT).any():
        inside = ndimage.distance_transform_edt(
            ndimage.binary_fill_holes(labels != HeadTissue.AIR), sampling=spacing_mm
        )
        made[(labels == HeadTissue.SOFT) & (inside > 2.0) & (inside < 7.0)] = HeadTissue.FAT
        made[(labels == HeadTissue.SOFT) & (inside >= 7.0)] = HeadTissue.MUSCLE
    depth = ndimage.distance_transform_edt(np.isin(labels, (HeadTissue.TABLE, HeadTissue.DIPLOE)), sampling=spacing_mm)
    made[(labels == HeadTissue.TABLE) & (depth > TABLE_MM)] = HeadTissue.DIPLOE
    if (labels == HeadTissue.WHITE).any() and not (labels == HeadTissue.GREY).any():
        depth = ndimage.distance_transform_edt(labels == HeadTissue.WHITE, sampling=spacing_mm)
        made[(depth > 0) & (depth <= CORTEX_MM)] = HeadTissue.GREY
    return made


def _of_dca(labels: Labels) -> Labels:
    """Axes I, L, A -> S, P, L."""
    return labels[::-1, :, ::-1].transpose(0, 2, 1)


def _of_angel(labels: Labels) -> Labels:
    """Axes R or L, A, S -> S, P, R or L."""
    return labels[:, ::-1, :].transpose(2, 1, 0)


_WHITE, _FLUID = (2, 7, 16, 28, 41, 46, 60, 85, 126, 128), (4, 5, 14, 15, 24, 43, 44, 122)
_DEEP = (3, 8, 10, 11, 12, 13, 17, 18, 26, 42, 47, 49, 50, 51, 52, 53, 54, 58, 96, 97)
_DCA: Final[Key] = {
    0: HeadTissue.AIR,
    98: HeadTissue.CSF,  # dura, dark too
    130: HeadTissue.AIR,
    **dict.fromkeys(_WHITE, HeadTissue.WHITE),
    **dict.fromkeys(_DEEP, HeadTissue.GREY),
    **dict.fromkeys(_FLUID, HeadTissue.CSF),
    **dict.fromkeys((129, 146, 147), HeadTissue.TABLE),
    **dict.fromkeys((140, 143, 145), HeadTissue.EYE),
    **dict.fromkeys((120, 132), HeadTissue.MUSCLE),
    **dict.fromkeys((131, 153), HeadTissue.FAT),
    135: HeadTissue.TEETH,
    142: HeadTissue.DIPLOE,
    154: HeadTissue.MASTOID,
}
_ANGEL: Final[Key] = {
    0: HeadTissue.AIR,
    1: HeadTissue.WHITE,
    2: HeadTissue.GREY,
    3: HeadTissue.CSF,
    4: HeadTissue.TABLE,
}
KEYS: Final[Mapping[str, tuple[str, float, Callable[[Labels], Labels], Key]]] = {
    "MGH_DCA_head_model": ("MODEL", 1.0, _of_dca, _DCA),
    "Angel001": ("INDICES", 1.0, _of_angel, _ANGEL),
}
"""Voxel model -> its variable, spacing in mm, the way to our axes, and what its labels mean."""
