"""Instance files on the disk, each whole or not there at all. No database."""
