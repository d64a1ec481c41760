"""Series and volumes: DICOM series -> volume -> synthetic CT -> CT series. Calls `models`; no sockets, no database."""
