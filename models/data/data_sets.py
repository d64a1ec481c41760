"""Data sets that models learn from, their licences, and the licences that these allow for the weights.

Weights are treated as adapted from their training data: attribution is passed on, non-commercial stays non-commercial,
and weights that learned from GPL data or from data without a licence are not distributed. A card names its data sets
and the licence of its weights; tests compare every card and every recipe with this table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

NOT_DISTRIBUTED: Final = "LicenseRef-not-distributed"
"""Licence in the card of weights that stay with whoever trained them."""
ATTRIBUTION: Final = ("CC-BY-4.0", "CC-BY-NC-4.0")
NON_COMMERCIAL: Final = ("CC-BY-NC-4.0",)
NONE: Final = ()


@dataclass(frozen=True)
class TrainingDataSet:
    """One data set.

    Attributes:
        title: what it is, and where it is published.
        licence: SPDX id; `NOASSERTION` where the publisher states none.
        weights: SPDX ids under which weights that learned from it may be distributed; empty where they may not.
        acknowledge: the publication to cite.
    """

    title: str
    licence: str
    weights: tuple[str, ...]
    acknowledge: str


DATA_SETS: Final[Mapping[str, TrainingDataSet]] = {
    "ibsi-soft-tissue-sarcoma": TrainingDataSet(
        "Soft-tissue sarcomas: validation set of the Image Biomarker Standardisation Initiative, from TCIA",
        "CC-BY-3.0",
        ATTRIBUTION,
        "Vallieres et al. 2015, Phys Med Biol 60:5471; Clark et al. 2013, J Digit Imaging 26:1045",
    ),
    "synthrad2023": TrainingDataSet(
        "SynthRAD2023 Grand Challenge dataset, doi 10.5281/zenodo.7260705",
        "CC-BY-NC-4.0",
        NON_COMMERCIAL,
        "Thummerer et al. 2023, Med Phys 50:4664",
    ),
    "synthrad2025": TrainingDataSet(
        "SynthRAD2025 Grand Challenge dataset, doi 10.5281/zenodo.14918089",
        "CC-BY-NC-4.0",
        NON_COMMERCIAL,
        "Thummerer et al. 2025, arXiv 2502.17609",
    ),
    "cptac-lscc": TrainingDataSet(
        "CT of CPTAC-LSCC, from TCIA",
        "CC-BY-3.0",
        ATTRIBUTION,
        "Clark et al. 2013, J Digit Imaging 26:1045",
    ),
    "colin27-t1": TrainingDataSet(
        "colin27: T1-weighted MR, as MRIcron carries it", "BSD-3-Clause", ATTRIBUTION, "MRIcron"
    ),
    "colin27-labels": TrainingDataSet("colin27: tissue labels, as MCX carries them", "GPL-3.0-only", NONE, "MCX"),
    "martinos-head-phantoms": TrainingDataSet(
        "Head phantoms DCA and Angel001 of the A. A. Martinos Center",
        "NOASSERTION",
        NONE,
        "Torrado-Carvajal et al. 2015, Magn Reson Med, doi 10.1002/mrm.25737",
    ),
    "invesalius-cranium": TrainingDataSet("Cranium CT, as InVesalius carries it", "GPL-2.0-only", NONE, "InVesalius"),
}
"""Name in a card's `data_sets` -> data set."""


def licence_fault(licence: str, data_sets: Sequence[str]) -> str:
    """Say why the licence of weights is not true of their training data.

    Args:
        licence: of the weights, as their card states it.
        data_sets: keys of `DATA_SETS`, as the card states them.

    Returns:
        A sentence, or an empty text where the data sets allow the licence.
    """
    unknown = [name for name in data_sets if name not in DATA_SETS]
    if unknown or not data_sets:
        return f"data_sets must name data sets of {', '.join(DATA_SETS)}; found {', '.join(unknown) or 'none'}"
    forbidding = [name for name in data_sets if licence not in DATA_SETS[name].weights]
    if licence == NOT_DISTRIBUTED or not forbidding:
        return ""
    return f"{licence} is not allowed for weights that learned from {', '.join(forbidding)}"


def with_licence(name: str) -> str:
    """The name of a data set for a person, with its licence where the table knows it."""
    return f"{name} ({DATA_SETS[name].licence})" if name in DATA_SETS else name
