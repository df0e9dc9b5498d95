"""The declarative base and the column types that tables share."""

from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import BigInteger, DateTime, Identity, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.types import UserDefinedType

TextKey = Annotated[str, mapped_column(Text, primary_key=True)]
BigKey = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]


class Xid8(UserDefinedType[str]):
    """PostgreSQL's `xid8`: the number of a transaction, never used again."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return the type's name."""
        return "XID8"


class Base(DeclarativeBase):
    """Base of all rows. `str` is PostgreSQL's `text`."""

    type_annotation_map = {str: Text, int: BigInteger}
