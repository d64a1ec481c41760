"""How alembic runs the migrations: on the connection that `dicomnode.ledger.migration` has opened, and in its
transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
