"""MR volume to HU volume, on the grid of the CT."""
