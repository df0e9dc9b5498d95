"""Alembic's entry: runs the migrations on the connection that `migrate` opened."""

from alembic import context

from steelyard.storage.tables import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
