"""One attempt at a job: from an MR series on the disk to a CT series on the disk."""
