"""What people are told about a job; on pages a job is called a case."""
