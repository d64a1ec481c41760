"""Tensors: the methods, their weights and their measurement. No DICOM, no sockets, no database, no clock.

    import models

    model = models.load_model("limb-t1-ldm", "cpu")
    hu = model.predict(mr, seed=1).hu        # (slice, row, column) on the grid of model.card.spacing_mm

The names of `__all__` may be used from outside. Each is imported when it is first used, so that a process that only
reads cards does not load torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.data.pairs import BadPair, Pair, make_pair, read_pairs
    from models.data.recipe import BadRecipe, Recipe, read_recipe
    from models.inference.baselines import LookUpTable, all_water, learn_look_up_table
    from models.inference.card import BadCard, ModelCard, UnknownModel, find, installed, read_card, write_card
    from models.inference.verify import problems_of
    from models.inference.weights import Model, Prediction, WrongDigest, load_model, save_model
    from models.measures.similarity import bias, mae, ms_ssim, psnr, score, ssim
    from models.measures.structures import dice, hd95
    from models.networks.translator import Translator

__all__ = [
    "BadCard",
    "BadPair",
    "BadRecipe",
    "LookUpTable",
    "Model",
    "ModelCard",
    "Pair",
    "Prediction",
    "Recipe",
    "Translator",
    "UnknownModel",
    "WrongDigest",
    "all_water",
    "bias",
    "dice",
    "find",
    "hd95",
    "installed",
    "learn_look_up_table",
    "load_model",
    "mae",
    "make_pair",
    "ms_ssim",
    "problems_of",
    "psnr",
    "read_card",
    "read_pairs",
    "read_recipe",
    "save_model",
    "score",
    "ssim",
    "write_card",
]

WITHOUT_TORCH = {
    "BadCard",
    "ModelCard",
    "UnknownModel",
    "bias",
    "dice",
    "find",
    "hd95",
    "installed",
    "mae",
    "ms_ssim",
} | {
    "psnr",
    "read_card",
    "score",
    "ssim",
    "write_card",
}
"""The names whose modules load no torch."""


def __getattr__(name: str) -> object:
    """Import one of `__all__` when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    if name in WITHOUT_TORCH:
        from models.inference import card
        from models.measures import similarity, structures

        return next(vars(module)[name] for module in (card, similarity, structures) if name in vars(module))
    from models.data import pairs, recipe
    from models.inference import baselines, verify, weights
    from models.networks import translator

    modules = (pairs, recipe, baselines, verify, weights, translator)
    return next(vars(module)[name] for module in modules if name in vars(module))


def __dir__() -> list[str]:
    """List the names that may be used from outside."""
    return __all__
