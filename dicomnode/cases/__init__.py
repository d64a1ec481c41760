"""Facts, words and reports about a job for people; on pages a job is called a case."""
