"""The DICOM node: associations, jobs, delivery and the web page. It calls `pipeline`; its command is `sct-node`."""

from dicomnode.errors import ConfigError, NodeError

__all__ = ["ConfigError", "NodeError"]
