"""A model that predicts: card, weights, uncertainty, and the baselines without weights."""
