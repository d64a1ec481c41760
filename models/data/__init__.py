"""Registered pairs of MR and CT, recipes, augmentation, intensity scales."""
