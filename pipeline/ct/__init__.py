"""HU volume to a CT series (PS3.3 A.3)."""
