"""Constancy, HU drift over weeks, and the report of a programme."""
