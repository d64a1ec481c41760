"""alembic's entry: it runs the revisions on the connection and in the transaction of `dicomnode.ledger.migration`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
