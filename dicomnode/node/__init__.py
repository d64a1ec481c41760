"""Processes: roles, their supervisor, and the check before the start."""
