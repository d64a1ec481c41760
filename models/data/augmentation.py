"""Changes that make more of few patients: other shapes, other contrasts, coarser and smaller acquisitions.

Every change is drawn first (a frozen value) and applied then, so that it can be recorded and repeated.
Axes (slice, row, column), along +S, +P, +L in mm: LPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch.nn import functional

from models.data.intensity import AIR_HU, MR_CEILING, to_unit
from models.data.pairs import MIXED, SKIN_WEIGHT, Pair, Patch

KNOTS: Final = 4
"""Knots of an elastic push along each axis of a patch; between them it is linear."""


@dataclass(frozen=True)
class Deformation:
    """A change of shape: mirrored axes, a turn about the patient's long axis in degrees, and a scale."""

    mirror_row: bool
    mirror_column: bool
    degrees: float
    scale: tuple[float, float, float]


def draw_deformation(generator: np.random.Generator) -> Deformation:
    """Limbs come left and right, prone and supine, turned by up to 25 degrees, and 15 % thinner or thicker."""
    common = generator.uniform(0.87, 1.15)
    first, second, third = (float(common * generator.uniform(0.95, 1.05)) for _ in range(3))
    mirrors = generator.random(2) < 0.5
    return Deformation(bool(mirrors[0]), bool(mirrors[1]), float(generator.uniform(-25, 25)), (first, second, third))


def deform(pair: Pair, change: Deformation) -> Pair:
    """Apply a deformation about the centre of the volume; the shape stays."""
    angle = np.deg2rad(change.degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    mirror = np.diag([1.0, -1.0 if change.mirror_row else 1.0, -1.0 if change.mirror_column else 1.0])
    spacing = np.diag(pair.spacing_mm)
    matrix = np.linalg.inv(spacing) @ turn @ mirror @ np.diag(1 / np.array(change.scale)) @ spacing
    centre = (np.array(pair.mr.shape) - 1) / 2
    offset = centre - matrix @ centre

    def moved(image: NDArray[np.float32], order: int, fill: float) -> NDArray[np.float32]:
        return np.asarray(ndimage.affine_transform(image, matrix, offset, order=order, cval=fill))

    return Pair(
        pair.name,
        moved(pair.mr.astype(np.float32), 1, 0.0).astype(np.float16),
        moved(pair.hu.astype(np.float32), 1, AIR_HU).astype(np.int16),
        moved(pair.body.astype(np.float32), 0, 0.0) > 0.5,
        pair.spacing_mm,
        None if pair.known is None else moved(pair.known.astype(np.float32), 1, 1.0) > MIXED,
    )


@dataclass(frozen=True)
class Contrast:
    """A change of the MR's values: gain, exponent, smooth bias field (log gain at 8 corners), noise SD, its seed."""

    gain: float
    exponent: float
    bias: tuple[float, ...]
    noise: float
    seed: int


def draw_contrast(generator: np.random.Generator, strength: float = 1.0) -> Contrast:
    """Scanners differ in contrast, coil and noise; at strength 1 the ranges are what remains after bias correction."""
    return Contrast(
        gain=float(generator.uniform(1 - 0.15 * strength, 1 + 0.15 * strength)),
        exponent=float(1.25 ** (strength * generator.uniform(-1, 1))),
        bias=tuple(generator.normal(0, 0.1 * strength, 8).tolist()),
        noise=float(generator.uniform(0, 0.03 * strength)),
        seed=int(generator.integers(2**31)),
    )


def apply_contrast(mr: torch.Tensor, change: Contrast) -> torch.Tensor:
    """Change a normalised MR (N, 1, S, R, C); it stays within 0 and the ceiling."""
    corners = torch.tensor(change.bias).view(1, 1, 2, 2, 2)
    field = torch.nn.functional.interpolate(corners, mr.shape[2:], mode="trilinear", align_corners=True).exp()
    generator = torch.Generator().manual_seed(change.seed)
    noise = change.noise * torch.randn(mr.shape, generator=generator)
    return (change.gain * field * mr.clamp(min=0) ** change.exponent + noise).clamp(0, MR_CEILING)


@dataclass(frozen=True)
class Warp:
    """A smooth change of a patch's shape about its centre.

    Attributes:
        degrees: turns about the slice, row and column axis.
        scale: of what is shown, (slice, row, column).
        push_mm: displacement of `KNOTS`^3 knots that span the patch, knot by knot (slice, row, column), in mm.
    """

    degrees: tuple[float, float, float]
    scale: tuple[float, float, float]
    push_mm: tuple[float, ...]


def draw_warp(generator: np.random.Generator, strength: float = 1.0) -> Warp:
    """At strength 1: turned by up to 8 degrees, 10 % thinner or thicker, knots pushed by an SD of 3 mm."""
    first, second, third = (float(strength * generator.uniform(-8, 8)) for _ in range(3))
    thin, tall, wide = (float(1.1 ** (strength * generator.uniform(-1, 1))) for _ in range(3))
    push = generator.normal(0, 3.0 * strength, 3 * KNOTS**3)
    return Warp((first, second, third), (thin, tall, wide), tuple(push.tolist()))


def places(warp: Warp, corner: Sequence[int], size: Sequence[int], spacing_mm: Sequence[float]) -> torch.Tensor:
    """Return the source of each voxel of a warped patch: voxel indices (S, R, C, 3) of the pair, float32."""
    spacing = torch.tensor(spacing_mm, dtype=torch.float32)
    axes = [torch.arange(length, dtype=torch.float32) - (length - 1) / 2 for length in size]
    beside = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) * spacing
    turn = torch.from_numpy(Rotation.from_euler("xyz", warp.degrees, degrees=True).as_matrix()).float()
    knots = torch.tensor(warp.push_mm).view(1, KNOTS, KNOTS, KNOTS, 3).movedim(-1, 1)
    push = functional.interpolate(knots, tuple(size), mode="trilinear", align_corners=True)[0].movedim(0, -1)
    came = beside @ turn.T / torch.tensor(warp.scale) + push
    centre = torch.tensor([first + (length - 1) / 2 for first, length in zip(corner, size, strict=True)])
    return came / spacing + centre


def warped_patch(pair: Pair, corner: Sequence[int], size: Sequence[int], warp: Warp) -> Patch:
    """The box of a pair at a corner, warped about its centre, by linear interpolation; beyond the image lies air."""
    where = places(warp, corner, size, pair.spacing_mm)
    first, last = where.amin((0, 1, 2)).tolist(), where.amax((0, 1, 2)).tolist()
    low = [min(max(int(place), 0), extent - 1) for place, extent in zip(first, pair.mr.shape, strict=True)]
    high = [max(int(place) + 2, begin + 1) for place, begin in zip(last, low, strict=True)]
    s, r, c = (slice(begin, end) for begin, end in zip(low, high, strict=True))
    mr, body = pair.mr[s, r, c], pair.body[s, r, c]
    unknown = np.zeros_like(body) if pair.known is None else ~pair.known[s, r, c]
    stack = np.stack([mr, pair.hu[s, r, c] - np.float32(AIR_HU), body, unknown]).astype(np.float32)
    extents = torch.tensor([max(extent - 1, 1) for extent in stack.shape[1:]])
    grid = 2 * (where - torch.tensor(low)) / extents - 1
    # grid_sample takes (x, y, z): column first; outside it adds zeros, which is known air
    warped = functional.grid_sample(torch.from_numpy(stack)[None], grid.flip(-1)[None], align_corners=True)[0]
    weight = (SKIN_WEIGHT + (1 - SKIN_WEIGHT) * (warped[2] > 0.5).float()) * (warped[3] < 1 - MIXED)
    return Patch(warped[0][None, None], to_unit(warped[1] + AIR_HU)[None, None], weight[None, None])


@dataclass(frozen=True)
class Acquisition:
    """Return a patch as an acquisition of lower resolution or smaller field of view would show it.

    Attributes:
        coarser: factor of the voxels' size, (slice, row, column), at least 1.
        cut: axis, end (0 low, 1 high) and share of the patch beyond a field of view that ends there; none for a
            patch that lies within the field.
    """

    coarser: tuple[float, float, float]
    cut: tuple[int, int, float] | None


def draw_acquisition(generator: np.random.Generator, strength: float = 1.0) -> Acquisition:
    """At strength 1: half of the patches up to twice as coarse, one in eight cut by the field's edge in the slice."""
    rough = generator.random() < 0.5
    first, second, third = (float(2 ** (strength * generator.random())) if rough else 1.0 for _ in range(3))
    cut = (int(generator.integers(1, 3)), int(generator.integers(2)), float(generator.uniform(0.05, 0.4)))
    return Acquisition((first, second, third), cut if generator.random() < strength / 8 else None)


def acquire(patch: Patch, change: Acquisition) -> Patch:
    """A patch as a coarser or smaller acquisition shows it; beyond a cut there is no signal, and nothing to learn.

    Weight there would teach that where there is no signal, as in cortical bone, there is air.
    """
    size = patch.mr.shape[2:]
    coarse = [max(2, round(length / factor)) for length, factor in zip(size, change.coarser, strict=True)]
    mr = functional.interpolate(patch.mr, coarse, mode="trilinear", align_corners=True)
    mr = functional.interpolate(mr, size, mode="trilinear", align_corners=True)
    if change.cut is None:
        return Patch(mr, patch.ct, patch.weight)
    axis, end, share = change.cut
    length = size[axis]
    beyond = torch.arange(length) >= length - round(share * length)
    seen = ~(beyond if end else beyond.flip(0)).view([-1 if axis == other else 1 for other in range(3)])
    return Patch(mr * seen, patch.ct, patch.weight * seen)
