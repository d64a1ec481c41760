"""MR and CT of heads from label maps, where registered pairs of real ones lack: semi-synthetic, and called so.

A label map says where each tissue is; a look says what each tissue is worth in the MR and in HU. The look is drawn
anew for each pair, so that a network learns shapes and orders of tissues rather than one scanner's values (Billot et
al. 2023, SynthSeg, Med Image Anal 86:102789). Every look is drawn first and applied then.

    python -m models.simulated DATA_DIR OUT_DIR --draws 4

writes NAME-N_mr.nii.gz and NAME-N_ct.nii.gz, as recipes read them. DATA_DIR holds `atlas/` (colin27, with a real T1
besides, and two voxel models of the A. A. Martinos Center) and `ct/` (two real CT of heads, which become label maps by
their HU and keep them). Axes (slice, row, column), along +S, +P, +L.
"""

from __future__ import annotations

import argparse
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

from models.cohort import at_spacing
from models.intensity import AIR_HU
from models.pairs import read_nifti, values_of

Labels = NDArray[np.uint8]
Image = NDArray[np.float32]


class Tissue(IntEnum):
    """What a voxel holds."""

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


HU: Final[Mapping[Tissue, tuple[float, float, float]]] = {
    Tissue.AIR: (AIR_HU, 0, 0),
    Tissue.SOFT: (40, 10, 12),
    Tissue.FAT: (-95, 10, 12),
    Tissue.MUSCLE: (55, 8, 12),
    Tissue.WHITE: (29, 3, 4),
    Tissue.GREY: (38, 3, 4),
    Tissue.CSF: (8, 4, 3),
    Tissue.TABLE: (1250, 200, 120),
    Tissue.DIPLOE: (550, 150, 150),
    Tissue.TEETH: (2100, 300, 200),
    Tissue.EYE: (12, 5, 4),
    Tissue.MASTOID: (-350, 150, 200),
}
"""Mean in HU, SD of it between people, and SD of its texture within one."""

MR: Final[Mapping[Tissue, tuple[float, float]]] = {
    Tissue.AIR: (0.0, 0.01),
    Tissue.SOFT: (0.35, 0.65),
    Tissue.FAT: (0.80, 1.10),
    Tissue.MUSCLE: (0.28, 0.50),
    Tissue.WHITE: (0.58, 0.85),
    Tissue.GREY: (0.38, 0.60),
    Tissue.CSF: (0.06, 0.25),
    Tissue.TABLE: (0.02, 0.14),
    Tissue.DIPLOE: (0.25, 0.90),
    Tissue.TEETH: (0.01, 0.10),
    Tissue.EYE: (0.08, 0.25),
    Tissue.MASTOID: (0.03, 0.25),
}
"""Least and largest signal in a T1-weighted MR, of which fat has about 1."""

TABLE_MM: Final = 1.6
"""Thickness of the tables of a skull whose label map does not tell them from the diploe."""
CORTEX_MM: Final = 3.0
"""Thickness of the grey matter where the label map knows one brain."""
HEAD_MM: Final = 230.0
"""What is kept of a label map that reaches down to the chest, from the vertex."""
TEXTURE_MM: Final = 2.5
"""Size of a texture's grains."""
BLUR_MM: Final = 0.7
"""SD of the point spread of both images."""
CT_NOISE_HU: Final = 12.0
CT_MM: Final = 1.5
"""Voxels of the real CT's label maps."""
BY_HU: Final[Mapping[Tissue, float]] = {
    Tissue.FAT: -250,
    Tissue.MUSCLE: -25,
    Tissue.DIPLOE: 180,
    Tissue.TABLE: 650,
    Tissue.TEETH: 1900,
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


@dataclass(frozen=True)
class Look:
    """What the tissues are worth: signal (fat about 1), HU, and the seed of texture and noise."""

    signal: tuple[float, ...]
    hu: tuple[float, ...]
    seed: int


def draw_look(generator: np.random.Generator) -> Look:
    """A scanner and a person."""
    signal = tuple(float(generator.uniform(*MR[tissue])) for tissue in Tissue)
    hu = tuple(float(generator.normal(*HU[tissue][:2])) for tissue in Tissue)
    return Look(signal, hu, int(generator.integers(2**31)))


def simulate(atlas: Atlas, look: Look) -> tuple[Image, Image]:
    """MR in arbitrary units and CT in HU, on the atlas' grid; each is the real one where there is one."""
    generator = np.random.default_rng(look.seed)
    grains = _smooth(generator.standard_normal(atlas.labels.shape).astype(np.float32), atlas, TEXTURE_MM)
    grains /= grains.std()
    hu = _hu_of(atlas, look, grains, generator) if atlas.hu is None else atlas.hu
    if atlas.mr is not None:
        return atlas.mr, hu
    signal = np.array(look.signal, np.float32)[atlas.labels] * (1 + 0.06 * grains)
    noisy = _smooth(signal, atlas, BLUR_MM) + 0.012 * generator.standard_normal(hu.shape).astype(np.float32)
    return 1000 * np.abs(noisy), hu


def _hu_of(atlas: Atlas, look: Look, grains: Image, generator: np.random.Generator) -> Image:
    """HU of the look's tissues, with texture, point spread and noise."""
    spread = np.array([HU[tissue][2] for tissue in Tissue], np.float32)
    sharp: Image = np.array(look.hu, np.float32)[atlas.labels] + spread[atlas.labels] * grains
    noise: Image = CT_NOISE_HU * generator.standard_normal(grains.shape).astype(np.float32)
    return _smooth(sharp, atlas, BLUR_MM) + noise


def _smooth(image: Image, atlas: Atlas, sd_mm: float) -> Image:
    return np.asarray(ndimage.gaussian_filter(image, [sd_mm / step for step in atlas.spacing_mm]), np.float32)


# Label maps


def read_atlases(data: Path) -> list[Atlas]:
    """The heads below a folder of data; colin27 twice, with its T1 and without.

    Raises:
        BadPair: a file cannot be read.
    """
    colin = _colin(data / "atlas" / "colin27")
    models = data / "atlas" / "martinos_head_phantoms"
    heads = [_mat(models / f"{name}.mat", *KEYS[name]) for name in KEYS]
    return [colin, Atlas("colin", colin.labels, colin.spacing_mm), *heads, *_real_ct(data / "ct")]


def _real_ct(folder: Path) -> list[Atlas]:
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
    smooth = ndimage.gaussian_filter(hu, 1.0)
    labels = np.full(hu.shape, Tissue.AIR, np.uint8)
    for tissue, lowest in BY_HU.items():
        labels[body & (smooth > lowest)] = tissue
    brain, blurred = _brain(labels), ndimage.gaussian_filter(hu, 2.0)
    for tissue, lowest in ((Tissue.CSF, -100), (Tissue.WHITE, 18), (Tissue.GREY, 33)):
        labels[brain & (blurred > lowest)] = tissue
    return Atlas(name, labels, (CT_MM,) * 3, hu=hu)


def _brain(labels: Labels) -> NDArray[np.bool_]:
    """Soft tissue that hangs together with what the vault encloses, by more than the skull's foramina let through."""
    soft = labels == Tissue.MUSCLE
    core = ndimage.binary_erosion(soft, iterations=round(6 / CT_MM))
    parts, _ = ndimage.label(core)
    inmost = int(np.argmax(np.bincount(parts[_vault(labels) & core], minlength=2)))
    return np.asarray(soft & ndimage.binary_dilation(core & (parts == inmost), iterations=round(9 / CT_MM)))


def _vault(labels: Labels) -> NDArray[np.bool_]:
    """What lies within the skull in the upper 60 mm of a head, where it is closed in every slice."""
    bone = labels >= Tissue.TABLE
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
    soft, cavity = Tissue.SOFT, Tissue.AIR
    key = {0: Tissue.AIR, 1: soft, 2: Tissue.TABLE, 3: Tissue.CSF, 4: Tissue.GREY, 5: Tissue.WHITE, 6: cavity}
    made = _renamed(labels.astype(np.uint8), key)
    made[(made == Tissue.TABLE) & ~_largest(made == Tissue.TABLE)] = Tissue.CSF  # specks of skull within the brain
    return Atlas("colin-t1", _refined(made, spacing_mm), spacing_mm, t1)


def _mat(path: Path, variable: str, spacing_mm: float, turn: Callable[[Labels], Labels], key: Key) -> Atlas:
    """A voxel model in MATLAB's format."""
    labels = np.ascontiguousarray(turn(loadmat(path)[variable]))
    steps = (spacing_mm, spacing_mm, spacing_mm)
    return Atlas(path.stem, _refined(_cropped(_renamed(labels, key), spacing_mm), steps), steps)


Key = Mapping[int, Tissue]


def _renamed(labels: Labels, key: Key) -> Labels:
    """A label map in our tissues; what the key does not name is soft tissue."""
    table = np.full(256, Tissue.SOFT, np.uint8)
    for label, tissue in key.items():
        table[label] = tissue
    return np.asarray(table[labels])


def _cropped(labels: Labels, spacing_mm: float, margin: int = 8) -> Labels:
    """The head with some air around it, without the chest."""
    top = int(np.flatnonzero((labels != Tissue.AIR).any(axis=(1, 2)))[-1])
    labels = labels[max(top - round(HEAD_MM / spacing_mm), 0) :]
    box = ndimage.find_objects((labels != Tissue.AIR).astype(np.uint8))[0]
    return np.pad(labels[box], ((0, margin), (margin, margin), (margin, margin)))


def _refined(labels: Labels, spacing_mm: tuple[float, float, float]) -> Labels:
    """What the label map does not tell apart: fat below the skin, tables of the skull."""
    made = labels.copy()
    if not (labels == Tissue.FAT).any():
        inside = ndimage.distance_transform_edt(ndimage.binary_fill_holes(labels != Tissue.AIR), sampling=spacing_mm)
        made[(labels == Tissue.SOFT) & (inside > 2.0) & (inside < 7.0)] = Tissue.FAT
        made[(labels == Tissue.SOFT) & (inside >= 7.0)] = Tissue.MUSCLE
    if not (labels == Tissue.DIPLOE).any():
        depth = ndimage.distance_transform_edt(labels == Tissue.TABLE, sampling=spacing_mm)
        made[depth > TABLE_MM] = Tissue.DIPLOE
    if (labels == Tissue.WHITE).any() and not (labels == Tissue.GREY).any():
        depth = ndimage.distance_transform_edt(labels == Tissue.WHITE, sampling=spacing_mm)
        made[(depth > 0) & (depth <= CORTEX_MM)] = Tissue.GREY
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
    0: Tissue.AIR,
    130: Tissue.AIR,
    **dict.fromkeys(_WHITE, Tissue.WHITE),
    **dict.fromkeys(_DEEP, Tissue.GREY),
    **dict.fromkeys(_FLUID, Tissue.CSF),
    **dict.fromkeys((129, 146, 147), Tissue.TABLE),
    **dict.fromkeys((140, 143, 145), Tissue.EYE),
    **dict.fromkeys((120, 132), Tissue.MUSCLE),
    **dict.fromkeys((131, 153), Tissue.FAT),
    135: Tissue.TEETH,
    142: Tissue.DIPLOE,
    154: Tissue.MASTOID,
}
_ANGEL: Final[Key] = {0: Tissue.AIR, 1: Tissue.WHITE, 2: Tissue.GREY, 3: Tissue.CSF, 4: Tissue.TABLE}
KEYS: Final[Mapping[str, tuple[str, float, Callable[[Labels], Labels], Key]]] = {
    "MGH_DCA_head_model": ("MODEL", 1.0, _of_dca, _DCA),
    "Angel001": ("INDICES", 1.0, _of_angel, _ANGEL),
}
"""Voxel model -> its variable, spacing in mm, the way to our axes, and what its labels mean."""


def write_pairs(atlases: list[Atlas], into: Path, draws: int, seed: int, spacing_mm: float) -> list[Path]:
    """Write `draws` pairs of each atlas; a real T1 gets one. -> the MR files."""
    into.mkdir(parents=True, exist_ok=True)
    written = []
    for number, atlas in enumerate(atlases):
        for draw in range(1 if atlas.mr is not None else draws):
            look = draw_look(np.random.default_rng([seed, number, draw]))
            name = f"{atlas.name}-{draw}"
            for kind, image in zip(("mr", "ct"), simulate(atlas, look), strict=True):
                path = into / f"{name}_{kind}.nii.gz"
                SimpleITK.WriteImage(_image(image, atlas.spacing_mm, spacing_mm), str(path))
            written.append(into / f"{name}_mr.nii.gz")
    return written


def _image(values: Image, have_mm: tuple[float, float, float], spacing_mm: float) -> SimpleITK.Image:
    """An image along the patient's axes at one spacing, int16."""
    resampled = ndimage.zoom(values, [step / spacing_mm for step in have_mm], order=1)
    image = SimpleITK.GetImageFromArray(np.rint(resampled).astype(np.int16))
    image.SetSpacing((spacing_mm,) * 3)
    return image


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.simulated", description="Pairs of MR and CT of heads, from label maps"
    )
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("into", type=Path, metavar="OUT_DIR")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--seed", type=int, default=20251122)
    parser.add_argument("--spacing-mm", type=float, default=1.5)
    given = parser.parse_args()
    write_pairs(read_atlases(given.data), given.into, given.draws, given.seed, given.spacing_mm)


if __name__ == "__main__":
    main()
