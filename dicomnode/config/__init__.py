"""The configuration: from YAML to frozen values. It reads its own file and nothing else."""
