"""Storage SCP (PS3.4 Annex B): from instances to series to jobs."""
