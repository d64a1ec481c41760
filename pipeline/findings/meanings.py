"""Explain each finding: what it measures, what causes unusual values, and what a person should look at then.

The help page, the report and the structured report all take their text from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

About = Literal["input", "output"]


@dataclass(frozen=True)
class Meaning:
    """The explanation of one finding for a physicist.

    Attributes:
        about: `input` (the MR as it came) or `output` (the synthetic CT).
        title: its name for a person, without a full stop.
        what: the quantity and how it is measured.
        low: the usual cause of a value below its limits; "" when there is no lower limit.
        high: the usual cause of a value above its limits, or of a text that does not pass; "" when there is none.
        look: the things to look at before the job is released.
    """

    about: About
    title: str
    what: str
    low: str
    high: str
    look: str


MEANINGS: Final[Mapping[str, Meaning]] = {
    "anatomy": Meaning(
        "input",
        "Body part",
        "BodyPartExamined (0018,0015), or else the anatomic region that the headers name.",
        "",
        "The series shows, or says that it shows, a part of the body on which the model has not learned.",
        "Whether the header is right. If it is, the HU have no meaning: reject the case.",
    ),
    "echo_time": Meaning(
        "input",
        "Echo time",
        "EchoTime (0018,0081) of the images, their median.",
        "An echo time shorter than the model's training images had: an ultra-short echo, in which bone shines.",
        "A T2-weighted or a late echo: fluid shines, and muscle is darker than the model knows.",
        "The protocol, and whether muscle and fat look as in a T1-weighted image.",
    ),
    "repetition_time": Meaning(
        "input",
        "Repetition time",
        "RepetitionTime (0018,0080) of the images, their median.",
        "A gradient echo with another contrast than the spin echo of the training images.",
        "A proton-density or T2-weighted image: the contrast between muscle and fat is another.",
        "The protocol, and whether muscle and fat look as in a T1-weighted image.",
    ),
    "fat_suppression": Meaning(
        "input",
        "Fat suppression",
        "Whether ScanOptions (0018,0022), the inversion time (0018,0082) or the enhanced MR functional groups say that "
        "the signal of fat was suppressed.",
        "",
        "Fat and marrow are dark; the model takes them for muscle, bone or air.",
        "Whether subcutaneous fat is dark. If it is, convert the series without fat suppression instead.",
    ),
    "contrast_agent": Meaning(
        "input",
        "Contrast agent",
        "Whether ContrastBolusAgent (0018,0010), or its sequence, names an agent.",
        "",
        "Vessels and tumour are bright as fat is; the model has not learned on such images.",
        "HU of vessels and tumour; prefer the series before the agent was given.",
    ),
    "slice_step": Meaning(
        "input",
        "Distance of the slices",
        "Distance from slice to slice along the normal.",
        "",
        "Slices so far apart that the anatomy between them is guessed.",
        "Bone ends and the outline in sagittal and coronal planes.",
    ),
    "slice_gap": Meaning(
        "input",
        "Gap between the slices",
        "Part of the distance of two slices that no slice covers, by SliceThickness (0018,0050); below 0 they overlap.",
        "Slices that overlap by more than half; a wrong SliceThickness.",
        "Anatomy between the slices was never measured.",
        "The protocol; small structures in sagittal and coronal planes.",
    ),
    "pixel_spacing": Meaning(
        "input",
        "Size of the pixels",
        "The larger side of an MR pixel.",
        "",
        "Pixels so large that thin cortical bone is lost.",
        "Thickness of cortical bone in axial planes.",
    ),
    "body_volume": Meaning(
        "input",
        "Volume of the body",
        "Volume within the outline of the body that is found in the MR.",
        "Hardly any body was found: an empty field, a phantom, a wrong rescale, or a coil that was not plugged in.",
        "",
        "Whether the outline is that of the patient.",
    ),
    "truncation": Meaning(
        "input",
        "Body cut by the field of view",
        "Part of the body's outline, in axial planes, that lies on the edge of the field that holds signal.",
        "",
        "The body goes on beyond the field of view: the CT lacks tissue, and a beam through it is computed wrong.",
        "Skin on all sides in every slice that a beam passes. What is missing must be planned for otherwise.",
    ),
    "signal_void": Meaning(
        "input",
        "Void in the signal",
        "Volume of the largest region within the body that gives no signal and is thicker than cortical bone.",
        "",
        "Metal, dense calcification, gas, or a region that another artefact has emptied: its HU are guessed.",
        "The region in the MR; whether the patient has an implant. The HU there must not be planned on.",
    ),
    "bias_field": Meaning(
        "input",
        "Unevenness of the coil",
        "Ratio of the 95th to the 5th percentile of a smooth field that is fitted to the body's signal, less one.",
        "",
        "A surface coil without correction, or one of its elements failed: tissue looks like another by its place.",
        "Whether muscle has the same HU near the coil and far from it.",
    ),
    "noise": Meaning(
        "input",
        "Noise",
        "Standard deviation of the noise within the body, relative to full signal (its 99th percentile).",
        "",
        "A scan too short, a coil too far away or not plugged in: the CT is blurred and thin bone is lost.",
        "Cortical bone and the outline.",
    ),
    "ghosting": Meaning(
        "input",
        "Ghosts in the air",
        "Mean signal of the air around the body, relative to the body's, beyond what noise explains.",
        "",
        "Motion, pulsation, or signal folded in from outside the field: the copies lie over the body too.",
        "Repeated contours in the air along the rows or columns, and in the body.",
    ),
    "slice_jumps": Meaning(
        "input",
        "Brightness from slice to slice",
        "Largest change of the median signal of the body from slice to slice, beyond the trend; of axial series.",
        "",
        "The slopes of the slices were lost on the way (RescaleSlope), slices of two acquisitions are mixed, or there "
        "was crosstalk or motion.",
        "Sagittal and coronal planes of the MR: bands.",
    ),
    "slice_shifts": Meaning(
        "input",
        "Shifts from slice to slice",
        "Shift within the plane by which neighbouring slices agree best, the 90th percentile; of axial series.",
        "",
        "The patient moved between the parts of an interleaved acquisition.",
        "Sagittal and coronal planes of the MR: a jagged outline.",
    ),
    "mr_histogram": Meaning(
        "input",
        "Distribution of the MR's values",
        "Distance (Wasserstein) between the distribution of the MR's values in the body, 0 no and 1 full signal, and "
        "that of the training images, in per cent of full signal.",
        "",
        "Another contrast than the model has learned on (T2, fat suppression, contrast agent), a wrong rescale, or "
        "another part of the body.",
        "Whether muscle, fat and bone look as in a T1-weighted image.",
    ),
    "novelty": Meaning(
        "input",
        "Distance from the training images",
        "How far this MR, and the CT made of it, lie from those of the training patients (mean squared Mahalanobis "
        "distance over the body): 1 is typical of these.",
        "",
        "The image is unlike those that the model has learned on, in a way that no other finding may name.",
        "Everything: contrast, anatomy, artefacts.",
    ),
    "soft_tissue_median": Meaning(
        "output",
        "Soft tissue",
        "Median HU of soft tissue, fat included.",
        "Too much fat, or a shift of all HU.",
        "Too little fat, or a shift of all HU.",
        "HU of muscle and fat in places that look like each.",
    ),
    "fat_median": Meaning(
        "output",
        "Fat",
        "Median of the HU from -200 to -30.",
        "Fat lies too low: confusion with air.",
        "Fat lies too high: confusion with muscle, as where fat is suppressed.",
        "HU of subcutaneous fat; -115 to -75 are usual.",
    ),
    "muscle_median": Meaning(
        "output",
        "Muscle",
        "Median of the HU from -30 to 150.",
        "Muscle lies too low: confusion with fat.",
        "Muscle lies too high: confusion with bone.",
        "HU of a large muscle; 20 to 70 are usual.",
    ),
    "bone_fraction": Meaning(
        "output",
        "Bone",
        "Part of the body above 250 HU.",
        "Bone was missed: beams through it are computed too weak an absorption.",
        "Dark tissue was taken for bone.",
        "Cortical bone in the MR (dark) against bone in the CT, slice by slice.",
    ),
    "air_fraction": Meaning(
        "output",
        "Air within the body",
        "Part of the body below -200 HU.",
        "",
        "A void in the signal was taken for air, or the outline holds air.",
        "Where in the body the CT shows air, and what the MR shows there.",
    ),
    "outline_agreement": Meaning(
        "output",
        "Agreement of the outlines",
        "Dice coefficient of the body's outline in the MR and in the synthetic CT (above -300 HU).",
        "The CT has lost a part of the body, or shows one where the MR has none.",
        "",
        "The skin in both images.",
    ),
    "uncertainty_mean": Meaning(
        "output",
        "Uncertainty, mean",
        "Mean over the body of the standard deviation that the model gives for each voxel.",
        "",
        "The model does not know this image well as a whole.",
        "The map of the uncertainty: where it is large.",
    ),
    "uncertainty_p95": Meaning(
        "output",
        "Uncertainty, 95th percentile",
        "What 95 % of the body's voxels stay below in standard deviation.",
        "",
        "Larger parts of the body than usual are uncertain, most often bone.",
        "The map of the uncertainty against targets and organs at risk.",
    ),
    "uncertain_region": Meaning(
        "output",
        "Largest uncertain region",
        "Volume of the largest connected region of the body whose standard deviation is above 200 HU.",
        "",
        "One place of which the model knows nothing: metal, a fracture, an unusual anatomy.",
        "That place in MR and CT.",
    ),
    "path_length": Meaning(
        "output",
        "Water-equivalent path length",
        "Mean absolute difference of the water-equivalent lengths of 72 rays to the deepest point of the body, in five "
        "axial planes, between the synthetic CT and a CT of water in the outline of the MR; relative to the latter.",
        "",
        "The HU along the beams are off as a whole: bone where there is none, air in the body, a wrong outline.",
        "HU along the rays through the thickest parts; the outline.",
    ),
    "hu_drift": Meaning(
        "output",
        "Drift of the HU",
        "Distance (Wasserstein) between the histogram of the HU in the body and that of the last cases of the same "
        "scanner, protocol and model that were not held or rejected.",
        "",
        "The protocol, the coil or the scanner's software has changed, or this patient is unlike the last ones.",
        "Whether other cases of that protocol have drifted too; the constancy test.",
    ),
}
"""Finding -> its explanation. A test checks that every finding is explained."""
