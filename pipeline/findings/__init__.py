"""Findings on MR and CT: limits, verdicts and meanings. Pixels are measured in `models.measures`, headers here."""
