"""Licences of weights are those that their training data allow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from packaging.licenses import canonicalize_license_expression

from models.data.data_sets import DATA_SETS, NOT_DISTRIBUTED, licence_fault, with_licence
from models.inference.card import ModelCard, read_card

MODELS = Path(__file__).resolve().parents[3] / "models"
CARDS = [read_card(path) for path in sorted(MODELS.glob("*shipped/**/*.json"))]
RECIPES = sorted((MODELS.parent / "config" / "train").glob("*.yaml"))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_the_licence_of_a_card_is_one_that_its_training_data_allow(card: ModelCard) -> None:
    assert licence_fault(card.licence, card.data_sets) == ""
    assert card.licence != NOT_DISTRIBUTED


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_licence_in_a_recipe_is_one_that_its_training_data_allow(recipe: Path) -> None:
    card = yaml.safe_load(recipe.read_text())["card"]
    assert licence_fault(card["licence"], card["data_sets"]) == ""


def test_the_wheel_carries_weights_under_cc_by_only() -> None:
    carried = [read_card(path) for path in sorted((MODELS / "shipped").glob("*.json"))]
    assert {card.name: card.licence for card in carried} == dict.fromkeys(
        ["limb-t1-ldm", "limb-t1-nnunet"], "CC-BY-4.0"
    )


@pytest.mark.parametrize(
    ("licence", "data_sets", "fault"),
    [
        ("CC-BY-4.0", ["cptac-lscc"], ""),
        ("CC-BY-NC-4.0", ["cptac-lscc", "synthrad2023"], ""),
        ("CC-BY-4.0", ["cptac-lscc", "synthrad2023"], "not allowed for weights that learned from synthrad2023"),
        ("CC-BY-4.0", ["colin27-t1", "colin27-labels"], "not allowed for weights that learned from colin27-labels"),
        (NOT_DISTRIBUTED, ["colin27-labels", "martinos-head-phantoms"], ""),
        ("CC BY 4.0", ["cptac-lscc"], "CC BY 4.0 is not allowed"),
        ("CC-BY-4.0", ["cptac"], "must name data sets of ibsi-soft-tissue-sarcoma, .*; found cptac"),
        ("CC-BY-4.0", [], "found none"),
    ],
)
def test_a_licence_that_the_data_do_not_allow_is_named_with_the_data(
    licence: str, data_sets: list[str], fault: str
) -> None:
    found = licence_fault(licence, data_sets)
    assert bool(found) == bool(fault)
    assert re.search(fault, found)


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_licence_of_the_table_is_an_spdx_id(name: str) -> None:
    found = DATA_SETS[name]
    for licence in (*found.weights, NOT_DISTRIBUTED, *([] if found.licence == "NOASSERTION" else [found.licence])):
        assert canonicalize_license_expression(licence) == licence


def test_a_data_set_is_shown_with_its_licence_and_a_site_s_own_by_its_name() -> None:
    assert with_licence("synthrad2025") == "synthrad2025 (CC-BY-NC-4.0)"
    assert with_licence("our-patients") == "our-patients"
