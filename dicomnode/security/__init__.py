"""PS3.15: TLS, audit trail, users."""
