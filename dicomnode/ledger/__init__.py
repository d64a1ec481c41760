"""Jobs and what happened to them: all SQL of jobs (SQLAlchemy, alembic)."""
