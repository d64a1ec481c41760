"""Semi-synthetic heads: MR and CT made from label maps."""
