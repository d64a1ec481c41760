"""MR instances to one series, and to the one volume in it that is meant."""
