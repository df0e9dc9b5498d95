"""Secrets, as far as anybody is shown of them."""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field, SecretStr

from steelyard.specs.base import Message, Spec

SecretName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
"""As `HF_TOKEN`: also the name of the file that a job finds the value in."""
MAX_SECRET_CHARACTERS = 32 * 1024


class SecretValue(Spec):
    """A value to keep."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"value": "hf_..."}]})

    value: Annotated[SecretStr, Field(min_length=1, max_length=MAX_SECRET_CHARACTERS)]


class SecretView(Message):
    """A secret without its value, which nobody can read back."""

    name: str
    version: int
    """Goes up with each new value."""
    created_by: str
    created_at: datetime
    updated_at: datetime
