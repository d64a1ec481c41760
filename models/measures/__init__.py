"""Numbers about images: similarity, structures, dose, path length, plausibility."""
