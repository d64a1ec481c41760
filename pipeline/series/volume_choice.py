"""Which volume of a series is meant: the site's `Choice`, and the default rule that takes one only when it is alone.

candidates    the frames, sorted into what may be one volume each (`pipeline.series.volume_candidates`); less
              localizers
choice        keeps the candidates that the site asked for; by default all of them
one           exactly one must be left. Images of another orientation, matrix or pixel spacing that are fewer than
              `Tolerances.min_slices` and cannot be a slice of it are set aside; anything else is refused by name

Calculated images: pixels that are no MR signal, by what Image Type and its companions call them (PS3.3 C.8.13.3).

A reformat (MPR, RESAMPLED), a sum or a mean of MR images still shows MR signal at true places and is taken. A map of a
quantity, a difference, a ratio or a projection does not, whatever regular stack it makes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.errors import Unsuitable
from pipeline.series.frame import Frame
from pipeline.series.instance import text
from pipeline.series.stack import Stack, Tolerances, missing_slices, stack_of
from pipeline.series.volume_candidates import Candidate, candidates, described, same_geometry, sorted_out

NOT_STATED: Final = "NONE"
"""Stands for an aspect that a volume's headers do not state."""

WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "component": ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY"),
    "dixon": ("IN_PHASE", "OPPOSED_PHASE", "WATER", "FAT"),
    "orientation": ("AXIAL", "CORONAL", "SAGITTAL"),
    "contrast_agent": ("YES", "NO"),
}
"""The aspects that have a few words each."""

TEXTS: Final = ("image_type", "label", "stack")
"""The aspects that are compared as text; all that are neither here nor in `WORDS` are numbers."""

Wanted = tuple[str, ...]
"""Values of one aspect in order of preference; none: whatever there is."""


@dataclass(frozen=True)
class Choice:
    """What a site wants of a series that holds several volumes; nothing at all: a volume that is the only one.

    The aspects are asked one after the other, as they stand here. Of the values of one, the first that any volume has
    is taken. An aspect that no volume states is passed over. `image_type` is one value of ImageType.
    """

    orientation: Wanted = ()
    stack: Wanted = ()
    echo: Wanted = ()
    """1 for the shortest echo time, 2 for the next."""
    echo_time_ms: Wanted = ()
    component: Wanted = ()
    dixon: Wanted = ()
    b_value: Wanted = ()
    """In s/mm2."""
    label: Wanted = ()
    temporal_position: Wanted = ()
    contrast_agent: Wanted = ()
    inversion_time_ms: Wanted = ()
    flip_angle_deg: Wanted = ()
    acquisition: Wanted = ()
    trigger_time_ms: Wanted = ()
    image_type: Wanted = ()

    @classmethod
    def of(cls, mapping: Mapping[str, object]) -> Choice:
        """Return the choice that a mapping of plain values means, such as {"echo": 1, "dixon": ["IN_PHASE", "WATER"]}.

        Raises ValueError with what is wrong.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for aspect in mapping:
            if aspect not in known:
                raise ValueError(f"{aspect!r} is nothing to choose a volume by; known are {', '.join(known)}")
        return cls(**{aspect: _values(aspect, given) for aspect, given in mapping.items()})

    @property
    def wanted(self) -> dict[str, Wanted]:
        """Aspect -> values in order of preference, of the aspects that are asked."""
        return {aspect: values for aspect, values in vars(self).items() if values}

    @property
    def mapping(self) -> dict[str, list[str]]:
        """The plain values that `of` takes again."""
        return {aspect: list(values) for aspect, values in self.wanted.items()}

    def __str__(self) -> str:
        asked = (f"{aspect} {' or '.join(values)}" for aspect, values in self.wanted.items())
        return ", ".join(asked) or "the only volume"


UNAMBIGUOUS: Final = Choice()
"""Take a volume only when it is the only one."""


@dataclass(frozen=True)
class SetAside:
    """Images of the series that are no part of the chosen volume: how many, what they are, why they are left out."""

    count: int
    what: str
    why: str


@dataclass(frozen=True)
class Chosen:
    """The one volume of a series.

    Attributes:
        stack: its frames on their grid.
        words: what tells it from the others, "" when it is alone.
        set_aside: everything else.
        complete: no other volume of the same geometry has another number of slices.
    """

    stack: Stack
    words: str
    set_aside: tuple[SetAside, ...]
    complete: bool


def choose(
    frames: Sequence[Frame], frame_of_reference_uid: str | None, choice: Choice, tolerances: Tolerances
) -> Chosen:
    """Return the one volume that `choice` leaves of `frames`.

    Raises Unsuitable LOCALIZER, SEVERAL_VOLUMES, NO_SUCH_VOLUME, NOT_MAGNITUDE, DERIVED_IMAGE, INCOMPLETE, or what
    `pipeline.series.stack.stack_of` finds.
    """
    images, localizers = sorted_out(frames)
    found = candidates(images, tolerances)
    one, strays = _only(_matching(found, choice), choice, tolerances)
    _no_slice_set_aside(one, strays, localizers, tolerances)
    _holds_mr_signal(one, choice)
    stack = stack_of(one.frames, frame_of_reference_uid, tolerances)
    others = [other for other in found if other is not one and other not in strays]
    _reaches_as_far(one, others, tolerances)
    parallel = {len(other.frames) for other in (one, *others) if other.geometry == one.geometry}
    words = described([one, *others])[0] if others else ""
    return Chosen(stack, words, _set_aside(one, others, strays, localizers), len(parallel) == 1)


def _matching(found: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    """Return the candidates that the choice leaves."""
    kept = list(found)
    for aspect, values in choice.wanted.items():
        if not any(one.states(aspect) for one in found):
            continue
        matches = ([one for one in kept if one.has(aspect, value)] for value in values)
        kept = next(filter(None, matches), [])
    if not kept:
        raise Unsuitable.of("NO_SUCH_VOLUME", choice=choice, found=_counted(found), detail=_listed(found))
    return kept


def _only(kept: Sequence[Candidate], choice: Choice, tolerances: Tolerances) -> tuple[Candidate, list[Candidate]]:
    """Return the only volume of `kept`, and the strays beside it: few images of another geometry."""
    if len(kept) == 1:
        return kept[0], []
    large = [one for one in kept if len(one.frames) >= tolerances.min_slices]
    if not large:
        stack_of([frame for one in kept for frame in one.frames], None, tolerances)
    if len(large) == 1:
        strays = [one for one in kept if one.geometry != large[0].geometry]
        if len(strays) == len(kept) - 1:
            return large[0], strays
    leaves = f"the choice of {choice} leaves" if choice.wanted else "the series holds"
    raise Unsuitable.of("SEVERAL_VOLUMES", found=f"{leaves} {_counted(kept)}", detail=f": {_listed(kept)}")


def _no_slice_set_aside(
    one: Candidate, strays: Sequence[Candidate], localizers: Sequence[Frame], tolerances: Tolerances
) -> None:
    """Refuse to set an image aside that may be a slice of the volume: in a gap of it, or next to its end."""
    slices = missing_slices(one.frames, [frame for other in strays for frame in other.frames], tolerances)
    if slices:
        stack_of([*one.frames, *slices], None, tolerances)  # they differ, and it says in what
    for frame in localizers:
        if same_geometry(frame, one.frames[0]) and missing_slices(one.frames, [frame], tolerances):
            raise Unsuitable.of("LOCALIZER", image_type=frame.kind["ImageType"])


def _holds_mr_signal(one: Candidate, choice: Choice) -> None:
    """Refuse a map, and what is no magnitude where that was not asked for."""
    word = calculated(one.frames[0])
    if word:
        raise Unsuitable.of("DERIVED_IMAGE", image_type=one.frames[0].kind["ImageType"], word=word)
    component = one.aspects["component"]
    if component in ("PHASE", "REAL", "IMAGINARY") and not choice.component:
        raise Unsuitable.of("NOT_MAGNITUDE", component=component.lower())


def _reaches_as_far(one: Candidate, others: Sequence[Candidate], tolerances: Tolerances) -> None:
    """Refuse a volume that ends before another one on the same grid."""
    for other in others:
        if other.geometry == one.geometry and missing_slices(one.frames, other.frames, tolerances):
            evidence = f"another volume of the series has {len(other.frames)}"
            raise Unsuitable.of("INCOMPLETE", found=f"{len(one.frames)} slices", evidence=evidence)


def _set_aside(
    one: Candidate, others: Sequence[Candidate], strays: Sequence[Candidate], localizers: Sequence[Frame]
) -> tuple[SetAside, ...]:
    """Say what is no part of the volume."""
    words = described([one, *others])[1:]
    aside = [SetAside(len(other.frames), what, "not chosen") for other, what in zip(others, words, strict=True)]
    aside += [SetAside(len(stray.frames), stray.geometry_words, "of another geometry") for stray in strays]
    if localizers:
        aside.append(SetAside(len(localizers), "localizer", "ImageType says so"))
    return tuple(aside)


def _counted(found: Sequence[Candidate]) -> str:
    return f"{len(found)} volume{'s' * (len(found) > 1)}"


def _listed(found: Sequence[Candidate]) -> str:
    """Return "echo 1 magnitude (TE 4.92 ms, 53 slices), ...", the first eight by name."""
    words = described(found)
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def _values(aspect: str, given: object) -> Wanted:
    """Return the values of one aspect as text, in order of preference."""
    return tuple(_value(aspect, one) for one in (given if isinstance(given, list | tuple) else [given]))


def _value(aspect: str, given: object) -> str:
    """Return one value as text, numbers in the form in which headers are compared."""
    word = {True: "YES", False: "NO"}[given] if isinstance(given, bool) else str(given).strip().upper()
    if word == NOT_STATED:
        return word
    if aspect in WORDS or aspect in TEXTS:
        if not word or word not in WORDS.get(aspect, (word,)):
            raise ValueError(f"{aspect} is {given!r}; known are {', '.join(WORDS.get(aspect, ('words',)))}")
        return word
    try:
        return f"{float(word):.6g}"
    except ValueError:
        raise ValueError(f"{aspect} is {given!r}; a number is needed") from None


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
