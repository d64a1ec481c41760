"""The work: its queues and their contract, the processes and machines that do it, and decisions of people."""
