"""Storage Commitment (PS3.4 Annex J), as SCP for senders and as SCU towards destinations."""
