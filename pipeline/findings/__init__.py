"""Plausibility of MR and CT: measured values, their limits and what each means."""
