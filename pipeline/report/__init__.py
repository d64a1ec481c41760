"""PDF, figures and viewer volumes of one case."""
