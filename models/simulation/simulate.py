"""MR and CT of heads from label maps, where registered pairs of real ones lack: semi-synthetic, and called so.

A label map says where each tissue is; a look says what each tissue is worth in the MR and in HU. The look is drawn
anew for each pair, so that a network learns shapes and orders of tissues rather than one scanner's values (Billot et
al. 2023, SynthSeg, Med Image Anal 86:102789). Every look is drawn first and applied then.

    python -m models.simulation.simulate DATA_DIR OUT_DIR --draws 4

writes NAME-N_mr.nii.gz and NAME-N_ct.nii.gz, as recipes read them. DATA_DIR holds `atlas/` (colin27, with a real T1
besides, and two voxel models of the A. A. Martinos Center) and `ct/` (two real CT of heads, which become label maps by
their HU and keep them). Axes (slice, row, column), along +S, +P, +L.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from models.data.intensity import AIR_HU
from models.simulation.head_atlas import Atlas, HeadTissue, Image, read_atlases

HU: Final[Mapping[HeadTissue, tuple[float, float, float]]] = {
    HeadTissue.AIR: (AIR_HU, 0, 0),
    HeadTissue.SOFT: (40, 10, 12),
    HeadTissue.FAT: (-95, 10, 12),
    HeadTissue.MUSCLE: (55, 8, 12),
    HeadTissue.WHITE: (29, 3, 4),
    HeadTissue.GREY: (38, 3, 4),
    HeadTissue.CSF: (8, 4, 3),
    HeadTissue.TABLE: (1250, 200, 120),
    HeadTissue.DIPLOE: (550, 150, 150),
    HeadTissue.TEETH: (2100, 300, 200),
    HeadTissue.EYE: (12, 5, 4),
    HeadTissue.MASTOID: (-350, 150, 200),
}
"""Mean in HU, SD of it between people, and SD of its texture within one."""

MR: Final[Mapping[HeadTissue, tuple[float, float]]] = {
    HeadTissue.AIR: (0.0, 0.01),
    HeadTissue.SOFT: (0.25, 0.65),
    HeadTissue.FAT: (0.80, 1.10),
    HeadTissue.MUSCLE: (0.22, 0.50),
    HeadTissue.WHITE: (0.40, 0.90),
    HeadTissue.GREY: (0.60, 0.97),
    HeadTissue.CSF: (0.12, 0.65),
    HeadTissue.TABLE: (0.02, 0.16),
    HeadTissue.DIPLOE: (0.20, 0.95),
    HeadTissue.TEETH: (0.01, 0.10),
    HeadTissue.EYE: (0.12, 0.50),
    HeadTissue.MASTOID: (0.03, 0.25),
}
"""Least and largest signal in a T1-weighted MR, of which fat has about 1; of `OF_WHITE`, in parts of white matter's."""
OF_WHITE: Final = (HeadTissue.GREY, HeadTissue.CSF, HeadTissue.EYE)

TEXTURE_MM: Final = 2.5
"""Size of a texture's grains."""
LOBE_MM: Final = 5.0
"""Size of the lobules of fat between muscles."""
LOBES_MM: Final = 5.0
"""Depth below the skin at which they begin."""
BLUR_MM: Final = 0.7
"""SD of the point spread of both images."""
CT_NOISE_HU: Final = 12.0
COIL_MM: Final = 30.0
"""Depth over which the sensitivity of a head coil falls."""
NECK_MM: Final = (130.0, 80.0)
"""Distance from the vertex at which a head coil begins to end, and over which its signal then falls by one e-fold."""


@dataclass(frozen=True)
class Look:
    """A scanner and a person.

    Attributes:
        signal: of the tissues; fat has about 1.
        hu: of the tissues.
        lobes: share of the soft tissue between skin and skull that is lobules of fat.
        coil: natural logarithm of the coil's sensitivity at the skin over that in the depth.
        neck: e-folds by which the signal falls from the end of the coil over `NECK_MM`.
        thick_mm: width of the point spread along the axis of the acquired slices.
        thick_axis: which that is.
        kept_mm: what the field of view holds of a head, from the vertex down.
        seed: of texture and noise.
    """

    signal: tuple[float, ...]
    hu: tuple[float, ...]
    lobes: float
    coil: float
    neck: float
    thick_mm: float
    thick_axis: int
    kept_mm: float
    seed: int


def draw_look(generator: np.random.Generator) -> Look:
    """A scanner and a person; four acquisitions of ten have thick slices, mostly sagittal ones."""
    signal = {tissue: float(generator.uniform(*MR[tissue])) for tissue in HeadTissue}
    signal |= {tissue: signal[tissue] * signal[HeadTissue.WHITE] for tissue in OF_WHITE}
    hu = tuple(float(generator.normal(*HU[tissue][:2])) for tissue in HeadTissue)
    return Look(
        signal=tuple(signal.values()),
        hu=hu,
        lobes=float(generator.uniform(0, 0.35)),
        coil=float(generator.uniform(0, 1.7)),
        neck=float(generator.uniform(0, 1.5)),
        thick_mm=float(generator.uniform(2, 5)) if generator.random() < 0.4 else 0.0,
        thick_axis=int(generator.choice([0, 2], p=[0.4, 0.6])),
        kept_mm=float(generator.uniform(150, 240)),
        seed=int(generator.integers(2**31)),
    )


def simulate(atlas: Atlas, look: Look) -> tuple[Image, Image]:
    """MR in arbitrary units and CT in HU, on the atlas' grid, cut at the neck; each is the real one where there is one.

    A head with a real MR is not cut.
    """
    generator = np.random.default_rng(look.seed)
    if atlas.mr is None:
        atlas = cut_at_the_neck(atlas, look.kept_mm)
    grains = _grains(atlas, TEXTURE_MM, generator)
    if atlas.mr is None and atlas.hu is None:
        atlas = replace(atlas, labels=_with_lobules(atlas, look.lobes, generator))
    hu = _hu_of(atlas, look, grains, generator) if atlas.hu is None else atlas.hu
    if atlas.mr is not None:
        return atlas.mr, hu
    signal = np.array(look.signal, np.float32)[atlas.labels] * (1 + 0.06 * grains) * sensitivity(atlas, look)
    blurs_mm = [BLUR_MM] * 3
    blurs_mm[look.thick_axis] = max(BLUR_MM, look.thick_mm / 2.355)
    noisy = _smooth(signal, atlas, *blurs_mm) + 0.012 * generator.standard_normal(hu.shape).astype(np.float32)
    return 1000 * np.abs(noisy), hu


def cut_at_the_neck(atlas: Atlas, kept_mm: float) -> Atlas:
    """Return the voxels that lie at most this far below the vertex."""
    top = int(np.flatnonzero((atlas.labels != HeadTissue.AIR).any(axis=(1, 2)))[-1])
    first = max(top - round(kept_mm / atlas.spacing_mm[0]), 0)
    return replace(atlas, labels=atlas.labels[first:], hu=None if atlas.hu is None else atlas.hu[first:])


def sensitivity(atlas: Atlas, look: Look) -> Image:
    """Return the sensitivity of a head coil, 1 at the skin: lower in the depth and below the coil's end."""
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in atlas.labels != HeadTissue.AIR])
    depth_mm = ndimage.distance_transform_edt(filled, sampling=atlas.spacing_mm).astype(np.float32)
    top = int(np.flatnonzero(filled.any(axis=(1, 2)))[-1])
    below_mm = (top - np.arange(filled.shape[0], dtype=np.float32)) * atlas.spacing_mm[0] - NECK_MM[0]
    along = np.exp(-look.neck * np.clip(below_mm, 0, None) / NECK_MM[1])
    return np.asarray(np.exp(-look.coil * (1 - np.exp(-depth_mm / COIL_MM))) * along[:, None, None], np.float32)


def _with_lobules(atlas: Atlas, share: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Labels with lobules of fat in a share of the deep soft tissue: bright spots that are no marrow."""
    depth_mm = ndimage.distance_transform_edt(atlas.labels != HeadTissue.AIR, sampling=atlas.spacing_mm)
    where = np.isin(atlas.labels, (HeadTissue.SOFT, HeadTissue.MUSCLE)) & (depth_mm > LOBES_MM)
    lobes = _grains(atlas, LOBE_MM, generator)
    fat = where & (lobes > np.quantile(lobes, 1 - share))
    return np.where(fat, np.uint8(HeadTissue.FAT), atlas.labels)


def _grains(atlas: Atlas, size_mm: float, generator: np.random.Generator) -> Image:
    """Smooth noise of mean 0 and SD 1."""
    noise = generator.standard_normal(atlas.labels.shape).astype(np.float32)
    grains = _smooth(noise, atlas, size_mm, size_mm, size_mm)
    return np.asarray(grains / grains.std(), np.float32)


def _hu_of(atlas: Atlas, look: Look, grains: Image, generator: np.random.Generator) -> Image:
    """HU of the look's tissues, with texture, point spread and noise."""
    spread = np.array([HU[tissue][2] for tissue in HeadTissue], np.float32)
    sharp: Image = np.array(look.hu, np.float32)[atlas.labels] + spread[atlas.labels] * grains
    noise: Image = CT_NOISE_HU * generator.standard_normal(grains.shape).astype(np.float32)
    return _smooth(sharp, atlas, BLUR_MM, BLUR_MM, BLUR_MM) + noise


def _smooth(image: Image, atlas: Atlas, *sd_mm: float) -> Image:
    steps = [sd / step for sd, step in zip(sd_mm, atlas.spacing_mm, strict=True)]
    return np.asarray(ndimage.gaussian_filter(image, steps), np.float32)


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
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.simulation.simulate", description="Pairs of MR and CT of heads, from label maps"
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
