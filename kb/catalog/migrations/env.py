"""Alembic's entry: runs the migrations inside the transaction that `Database` opened."""

from alembic import context

from kb.catalog.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
