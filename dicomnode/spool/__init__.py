"""Instance files on the disk, each complete or absent. No database."""
