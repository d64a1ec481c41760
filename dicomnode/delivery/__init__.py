"""One attempt at a destination: Storage SCU (PS3.4 Annex B) and STOW-RS (PS3.18 10.5)."""
