"""Run by alembic: on the connection that `discover.store.migrate` hands over, or by hand.

By hand (`alembic upgrade head`, `alembic revision --autogenerate`) the database is the one that
`discover` itself would use: the variable DISCOVER_DB, else `discover.db` here.
"""

from alembic import context
from sqlalchemy import Connection

from discover.store.engine import Database, default_url
from discover.store.tables import metadata


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


def migrate_offline() -> None:
    context.configure(url=default_url(), target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    migrate_offline()
elif (given := context.config.attributes.get("connection")) is not None:
    migrate(given)
else:
    with Database().write() as opened:
        migrate(opened)
