"""Quality over time: the constancy check, and the report of a programme of weeks."""
