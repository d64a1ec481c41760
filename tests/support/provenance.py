"""What the tests that write CT objects say of their making: a model's card without weights, and a provenance."""

from models.inference.card import ModelCard
from pipeline.ct.provenance import Provenance, Sampling

CARD = ModelCard(
    name="limb-t1-ldm",
    version="1.0.0",
    digest="ab" * 32,
    architecture={},
    modality="MR",
    anatomy=("THIGH",),
    contrast="T1",
    spacing_mm=(3.0, 1.0, 1.0),
    hu_range=(-1024.0, 3071.0),
    training_data="none",
    limits="It means nothing on a head.",
)
SAMPLING = Sampling(seed=7, steps=4, samples=2, to_model="linear", to_ct="linear", model_spacing_mm=(3.0, 1.0, 1.0))
PROVENANCE = Provenance(CARD, SAMPLING, (), "cd" * 32, (), "0.1.0")
