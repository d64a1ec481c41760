"""The methods by the word that stands for them in recipes and cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from models.data.recipe import BadRecipe, Recipe
from models.networks.cyclegan import CycleGan
from models.networks.latent_diffusion import LatentDiffusion
from models.networks.nnunet import NnUNet
from models.networks.pix2pix import Pix2Pix
from models.networks.regression import SwinUnetr
from models.networks.translator import Translator

METHODS: Final[Mapping[str, type[Translator]]] = {
    "ldm": LatentDiffusion,
    "nnunet": NnUNet,
    "swinunetr": SwinUnetr,
    "pix2pix": Pix2Pix,
    "cyclegan": CycleGan,
}


def method_of(recipe: Recipe) -> type[Translator]:
    """The class of a recipe's method.

    Raises:
        BadRecipe: there is no such method, or the recipe's stages are not the method's.
    """
    if recipe.method not in METHODS:
        raise BadRecipe(f"method: must be one of {', '.join(METHODS)}, found {recipe.method!r}")
    method = METHODS[recipe.method]
    if set(recipe.stages) != set(method.stages):
        raise BadRecipe(f"stages: must be {', '.join(method.stages)}, found {', '.join(recipe.stages)}")
    return method


def build(method: str, architecture: Mapping[str, Any]) -> Translator:
    """Build the networks of a method with new weights."""
    return METHODS[method](**architecture)
