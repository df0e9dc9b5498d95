"""Which bucket artifacts go to, and how they are encrypted there: `STEELYARD_OBJECT_STORE_...`.

Endpoint, region and credentials are the environment's (`AWS_...`), or the machine's role. Every process of
the platform reads the same variables, those that build datasets included; training processes see none of
them.
"""

import base64
import binascii
import os
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from steelyard.kit.errors import SteelyardError

PREFIX = "STEELYARD_OBJECT_STORE_"
URL_VARIABLE = f"{PREFIX}URL"
Encryption = Literal["AES256", "aws:kms", "aws:kms:dsse", "sse-c", "bucket-default"]

_URL = re.compile(r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?$")
_CUSTOMER_KEY_BYTES = 32
_OTHERS = 0o077


class BucketMisconfigured(SteelyardError):
    """The object store's settings can't be right; trying again won't help."""

    code = "object_store_misconfigured"


class BucketSettings(BaseSettings):
    """One field per setting. Without `url` artifacts stay in the local folder, as its disk keeps them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    url: str | None = None
    """`s3://BUCKET/PREFIX`."""
    encryption: Encryption = "AES256"
    """What every write asks the store for; `bucket-default` asks for nothing."""
    kms_key_id: str | None = None
    """Key of `aws:kms`, as id, alias or ARN. Unset: the account's own key for S3."""
    customer_key_file: Path | None = None
    """Of `sse-c`: base64 of 32 bytes, mode 0600. Who loses it loses the artifacts."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.url is None:
            return self
        if not _URL.fullmatch(self.url):
            raise ValueError(f"{URL_VARIABLE} must be s3://BUCKET/PREFIX")
        if self.kms_key_id is not None and not self.encryption.startswith("aws:kms"):
            raise ValueError(f"{PREFIX}KMS_KEY_ID needs {PREFIX}ENCRYPTION=aws:kms")
        if (self.customer_key_file is not None) != (self.encryption == "sse-c"):
            raise ValueError(f"{PREFIX}CUSTOMER_KEY_FILE and {PREFIX}ENCRYPTION=sse-c go together")
        return self

    @property
    def label(self) -> str:
        """How objects are encrypted, in one word that is kept with each of them."""
        return f"{self.encryption}:{self.kms_key_id}" if self.kms_key_id else self.encryption

    def headers(self) -> dict[str, str]:
        """Return what obstore is told about encryption.

        Raises:
            BucketMisconfigured: the customer's key can't be read, is none, or lies open to others.
        """
        if self.encryption == "bucket-default":
            return {}
        told: dict[str, str] = {"server_side_encryption": self.encryption}
        if self.kms_key_id is not None:
            told["sse_kms_key_id"] = self.kms_key_id
        if self.customer_key_file is not None:
            told["sse_customer_key_base64"] = _read_key(self.customer_key_file)
        return told


def read_settings() -> BucketSettings:
    """Return the settings of this process's environment.

    Raises:
        BucketMisconfigured: they can't be right.
    """
    try:
        return BucketSettings()
    except ValidationError as error:
        told = "; ".join(
            f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}" if fault["loc"] else fault["msg"]
            for fault in error.errors()
        )
        raise BucketMisconfigured(told) from error


def uses_bucket() -> bool:
    """Whether this process's artifacts belong in a bucket."""
    return bool(os.environ.get(URL_VARIABLE))


def _read_key(path: Path) -> str:
    try:
        if path.stat().st_mode & _OTHERS:
            raise BucketMisconfigured(f"{path} is open to other users; chmod 600 it")
        text = path.read_text().strip()
        raw = base64.b64decode(text, validate=True)
    except OSError as error:
        raise BucketMisconfigured(f"{path} can't be read ({error.strerror}); name the key's file") from error
    except (binascii.Error, ValueError) as error:
        raise BucketMisconfigured(f"{path} isn't base64; `openssl rand -base64 32` makes a key") from error
    if len(raw) != _CUSTOMER_KEY_BYTES:
        raise BucketMisconfigured(
            f"{path} holds {len(raw)} bytes, not 32; `openssl rand -base64 32` makes a key"
        )
    return text
