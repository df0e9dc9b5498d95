"""The base of all models of the public language."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """Frozen, strict, and closed: an unknown field is an error, and no value is coerced.

    Parse from JSON text (`model_validate_json`), where strict mode accepts what JSON can say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Message(BaseModel):
    """Frozen, but open to unknown fields: what one version of a process sends to another version."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$", max_length=63)]
"""Lower-case letters, digits, `.`, `_` and `-`; begins and ends with a letter or digit."""

TagValue = Annotated[str, Field(max_length=256)]
"""The value of a tag: free text of at most 256 characters."""
