"""The tables of the database of a catalog, made by the process that serves it.

Tiled's own ``init_if_not_exists`` starts another Python for them, which takes as long as the server itself.
"""

import asyncio

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from tiled.alembic_utils import UninitializedDatabase, check_database
from tiled.catalog.alembic_constants import ALEMBIC_DIR
from tiled.catalog.core import ALL_REVISIONS, REQUIRED_REVISION, initialize_database
from tiled.utils import ensure_specified_sql_driver

from tomolive.errors import CatalogError


def make_tables(uri: str) -> None:
    """Make the tables of the database at ``uri``, as ``tiled catalog init --if-not-exists`` does.

    Raises
    ------
    CatalogError
        if the database cannot be opened, or is of another version of Tiled.
    """
    try:
        asyncio.run(_make_tables(ensure_specified_sql_driver(uri)))
    except DBAPIError as error:
        raise CatalogError(str(error.orig)) from None
    except Exception as error:  # each driver has its own for a server that is away or refuses
        text = str(error).strip() or type(error).__name__  # a time limit, for one, has no words
        raise CatalogError(text.splitlines()[-1]) from error


async def _make_tables(uri: str) -> None:
    engine = create_async_engine(uri)
    try:
        await check_database(engine, REQUIRED_REVISION, ALL_REVISIONS)
    except UninitializedDatabase:
        await initialize_database(engine)
        async with engine.begin() as connection:
            await connection.run_sync(_stamp)  # last: what is stamped was set up to the end
    finally:
        await engine.dispose()


def _stamp(connection: Connection) -> None:
    MigrationContext.configure(connection).stamp(ScriptDirectory(ALEMBIC_DIR), "head")
