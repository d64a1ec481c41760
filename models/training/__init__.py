"""Training: the trainer, its checkpoints, folds, validation and the fit of the uncertainty."""
