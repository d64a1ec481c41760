"""The choice of the one volume of a series: the site's `Choice`, or the only volume that there is.

candidates    the frames, sorted into groups that may be one volume each (`pipeline.series.volume_candidates`), without
              localizers
choice        keeps the candidates that the site asked for; by default all of them
one           exactly one must be left. Images of another orientation, matrix or pixel spacing that are fewer than
              `Tolerances.min_slices` and cannot be a slice of it are set aside; other images are refused by name

Calculated images are refused: Image Type, Volume Based Calculation Technique and Volumetric Properties (PS3.3
C.8.16.1, C.8.16.2) show whether pixels hold MR signal. A reformat (MPR, RESAMPLED), a sum or a mean of MR images
has MR signal at true places and is taken. A map of a quantity, a difference, a ratio or a projection has not, even
where its frames make a regular stack.
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
from pipeline.series.volume_candidates import Candidate, candidates, described, same_geometry, without_localizers

NOT_STATED: Final = "NONE"
"""The value of an aspect that a volume's headers do not state."""

WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "component": ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY"),
    "dixon": ("IN_PHASE", "OPPOSED_PHASE", "WATER", "FAT"),
    "orientation": ("AXIAL", "CORONAL", "SAGITTAL"),
    "contrast_agent": ("YES", "NO"),
}
"""The aspects whose values are a few words, and these words."""

TEXTS: Final = ("image_type", "label", "stack")
"""The aspects that are compared as text; those that are neither here nor in `WORDS` are numbers."""

Wanted = tuple[str, ...]
"""Values of one aspect in order of preference; none where any value will do."""


@dataclass(frozen=True)
class Choice:
    """The volume that a site wants of a series with several; without any aspect, the only volume of the series.

    The aspects are applied one after the other, in this order. Of the values of one, the first that any volume has is
    taken. An aspect that no volume states is skipped. `image_type` is one value of ImageType.
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
        """Return the choice of a mapping of plain values, such as {"echo": 1, "dixon": ["IN_PHASE", "WATER"]}.

        Raises:
            ValueError: an aspect or a value is unknown; the sentence names it.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for aspect in mapping:
            if aspect not in known:
                raise ValueError(f"{aspect!r} is nothing to choose a volume by; known are {', '.join(known)}")
        listed = {aspect: given if isinstance(given, list | tuple) else [given] for aspect, given in mapping.items()}
        return cls(**{aspect: tuple(_value(aspect, one) for one in values) for aspect, values in listed.items()})

    @property
    def wanted(self) -> dict[str, Wanted]:
        """Aspect -> values in order of preference, of the aspects that the site set."""
        return {aspect: values for aspect, values in vars(self).items() if values}

    @property
    def mapping(self) -> dict[str, list[str]]:
        """The plain values of which `of` makes the same choice."""
        return {aspect: list(values) for aspect, values in self.wanted.items()}

    def __str__(self) -> str:
        asked = (f"{aspect} {' or '.join(values)}" for aspect, values in self.wanted.items())
        return ", ".join(asked) or "the only volume"


UNAMBIGUOUS: Final = Choice()
"""Take a volume only when it is the only one."""


@dataclass(frozen=True)
class SetAside:
    """Images of the series that are no part of the chosen volume.

    Attributes:
        count: how many.
        what: description of them.
        why: reason why they are left out.
    """

    count: int
    what: str
    why: str


@dataclass(frozen=True)
class Chosen:
    """The one volume of a series.

    Attributes:
        stack: its frames on their grid.
        volume_description: the aspects in which it differs from the others, in words; "" when it is alone.
        set_aside: the images that are no part of it.
        complete: no other volume of the same geometry has another number of slices.
    """

    stack: Stack
    volume_description: str
    set_aside: tuple[SetAside, ...]
    complete: bool


def choose(
    frames: Sequence[Frame], frame_of_reference_uid: str | None, choice: Choice, tolerances: Tolerances
) -> Chosen:
    """Return the one volume that `choice` leaves of `frames`.

    Raises:
        Unsuitable: LOCALIZER, SEVERAL_VOLUMES, NO_SUCH_VOLUME, NOT_MAGNITUDE, DERIVED_IMAGE, INCOMPLETE, or a code of
            `pipeline.series.stack.stack_of`.
    """
    images, localizers = without_localizers(frames)
    found = candidates(images, tolerances)
    one, strays = _only(_matching(found, choice), choice, tolerances)
    _no_slice_set_aside(one, strays, localizers, tolerances)
    word, component = calculated(one.frames[0]), one.aspects["component"]
    if word:
        raise Unsuitable.of("DERIVED_IMAGE", image_type=one.frames[0].kind["ImageType"], word=word)
    if component in ("PHASE", "REAL", "IMAGINARY") and not choice.component:
        raise Unsuitable.of("NOT_MAGNITUDE", component=component.lower())
    stack = stack_of(one.frames, frame_of_reference_uid, tolerances)
    others = [other for other in found if other is not one and other not in strays]
    parallel = [other for other in others if other.geometry == one.geometry]
    for other in parallel:
        if missing_slices(one.frames, other.frames, tolerances):
            evidence = f"another volume of the series has {len(other.frames)}"
            raise Unsuitable.of("INCOMPLETE", found=f"{len(one.frames)} slices", evidence=evidence)
    description, *descriptions = described([one, *others])
    aside = [SetAside(len(other.frames), what, "not chosen") for other, what in zip(others, descriptions, strict=True)]
    aside += [SetAside(len(stray.frames), stray.geometry_words, "of another geometry") for stray in strays]
    aside += [SetAside(len(localizers), "localizer", "ImageType says so")] * bool(localizers)
    complete = all(len(other.frames) == len(one.frames) for other in parallel)
    return Chosen(stack, description if others else "", tuple(aside), complete)


def _matching(found: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    """Return the candidates that the choice leaves. Raises Unsuitable NO_SUCH_VOLUME where it leaves none."""
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
    """Return the only volume of `kept`, and the strays beside it, which are few images of another geometry."""
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
    """Check that no image is set aside that may be a slice of the volume: in a gap of it, or next to its end.

    Raises:
        Unsuitable: LOCALIZER, or the difference to the other slices.
    """
    slices = missing_slices(one.frames, [frame for other in strays for frame in other.frames], tolerances)
    if slices:
        stack_of([*one.frames, *slices], None, tolerances)  # raises the error with the difference
    for frame in localizers:
        if same_geometry(frame, one.frames[0]) and missing_slices(one.frames, [frame], tolerances):
            raise Unsuitable.of("LOCALIZER", image_type=frame.kind["ImageType"])


def _counted(found: Sequence[Candidate]) -> str:
    return f"{len(found)} volume{'s' * (len(found) > 1)}"


def _listed(found: Sequence[Candidate]) -> str:
    """Return "echo 1 magnitude (TE 4.92 ms, 53 slices), ...", the first eight by name."""
    words = described(found)
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


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
"""Values that name a picture whose pixels are no voxels, also in Volume Based Calculation Technique (0008,9207)."""
DERIVED_PIXEL_CONTRAST: Final = frozenset({"T1", "T2", "T2_STAR", "PROTON_DENSITY", "PERFUSION"})
"""Fourth values of a multi-frame Image Type that are maps there (PS3.3 C.8.16.1.4); as third values they are not."""


def calculated(frame: Frame) -> str:
    """Return the word in the header by which a frame has no MR signal, or ""."""
    values = frame.kind["ImageType"].upper().split("\\")[2:]
    words = [value for value in values if value in MAPS | PROJECTIONS]
    if frame.instance.is_multi_frame:
        words += [value for value in values[1:2] if value in DERIVED_PIXEL_CONTRAST]
    technique = text(frame.instance, "VolumeBasedCalculationTechnique").upper()
    distorted = text(frame.instance, "VolumetricProperties").upper() == "DISTORTED"
    words += [technique] * (technique in PROJECTIONS) + ["DISTORTED"] * distorted
    return next(iter(words), "")
