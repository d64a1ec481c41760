"""The command line `sct-node`. The only folder that prints."""
