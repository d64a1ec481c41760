"""The processes of a node: its roles, their supervisor, and the checks before and after the start."""
