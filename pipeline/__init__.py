"""Series and volumes: DICOM series -> volume -> synthetic CT -> CT series. Calls `models`; no sockets, no database.

    import pipeline
    from models.inference.weights import load_model

    series = pipeline.only_series(pipeline.read_series(folder))
    result = pipeline.convert(series, load_model("limb-t1-ldm", "cpu"), into, pipeline.ConversionOptions())

The names of `__all__` may be used from outside. Each is imported when it is first used, so that a process that only
reads series does not load torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.conversion import ConversionOptions, Result, convert
    from pipeline.ct.provenance import Provenance, Sampling
    from pipeline.ct.write import Labels, write_ct
    from pipeline.errors import PipelineError, Unsuitable
    from pipeline.findings.findings import Finding
    from pipeline.gate import Hold, Implausible
    from pipeline.monai_bundle import write_bundle
    from pipeline.preflight.check import Complaint, complaints
    from pipeline.preflight.profile import Profile, load_profile
    from pipeline.series.instance import Instance, read_instance
    from pipeline.series.series import Selection, Series, only_series, read_series, select
    from pipeline.series.stack import Stack, Tolerances
    from pipeline.series.volume_choice import Choice
    from pipeline.volume.ct_grid import OutputGrid, output_geometry
    from pipeline.volume.resampling import resample
    from pipeline.volume.synthesize import Synthesis, predict_nifti, seed_of, synthesize
    from pipeline.volume.volume import read_nifti, read_volume, write_nifti

__all__ = [
    "Choice",
    "Complaint",
    "ConversionOptions",
    "Finding",
    "Hold",
    "Implausible",
    "Instance",
    "Labels",
    "OutputGrid",
    "PipelineError",
    "Profile",
    "Provenance",
    "Result",
    "Sampling",
    "Selection",
    "Series",
    "Stack",
    "Synthesis",
    "Tolerances",
    "Unsuitable",
    "complaints",
    "convert",
    "load_profile",
    "only_series",
    "output_geometry",
    "predict_nifti",
    "read_instance",
    "read_nifti",
    "read_series",
    "read_volume",
    "resample",
    "seed_of",
    "select",
    "synthesize",
    "write_bundle",
    "write_ct",
    "write_nifti",
]

WITH_TORCH = {"ConversionOptions", "Result", "Synthesis", "convert", "predict_nifti", "seed_of", "synthesize"}
"""The names whose modules load torch."""


def __getattr__(name: str) -> object:
    """Import one of `__all__` when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    if name in WITH_TORCH:
        from pipeline import conversion
        from pipeline.volume import synthesize

        return next(vars(module)[name] for module in (conversion, synthesize) if name in vars(module))
    from pipeline import errors, gate, monai_bundle
    from pipeline.ct import provenance, write
    from pipeline.findings import findings
    from pipeline.preflight import check, profile
    from pipeline.series import instance, series, stack, volume_choice
    from pipeline.volume import ct_grid, resampling, volume

    modules = [errors, gate, monai_bundle, provenance, write, findings, check, profile]
    modules += [instance, series, stack, volume_choice, ct_grid, resampling, volume]
    return next(vars(module)[name] for module in modules if name in vars(module))


def __dir__() -> list[str]:
    """List the names that may be used from outside."""
    return __all__
