"""Whether the bucket can be used as it was set: reached, written, read, deleted from, and encrypted.

An object is written below `.probe/`, looked at from outside, and removed.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import httpx
import obstore
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from steelyard.storage.bucket import Bucket, BucketUnavailable, first_line
from steelyard.storage.bucket_settings import PREFIX, BucketMisconfigured, BucketSettings, read_settings

_PROBE = b"written by steelyard to see whether it may; safe to delete\n"
_SIGNED_FOR = timedelta(minutes=1)
_TIMEOUT_SECONDS = 10.0
_HEADER = "x-amz-server-side-encryption"
_REFUSALS = (FileNotFoundError, PermissionDeniedError, UnauthenticatedError)
_CUSTOMER_KEY_NEEDED = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN)


@dataclass(frozen=True)
class BucketFault:
    """What is wrong, and what to do. `passing`: it may be gone the next time, with nothing done."""

    message: str
    remedy: str
    passing: bool = False


def examine_bucket() -> BucketFault | str:
    """Try the bucket of this process's environment; return what is wrong, or how it is used. Blocking."""
    try:
        settings = read_settings()
        bucket = Bucket.open(settings, patient=False)
    except BucketMisconfigured as error:
        return BucketFault(error.message, "set it right, for all processes of the platform")
    key = f".probe/{uuid.uuid4().hex}"
    try:
        bucket.put_bytes(key, _PROBE)
        if bucket.read_bytes(key) != _PROBE:
            return BucketFault(f"{bucket.url} gives back other bytes than were written", "use another store")
        fault = _look_at_encryption(bucket, key, settings)
        bucket.remove([key])
    except BucketUnavailable as error:
        return _explain(bucket, error)
    return fault or f"{bucket.url} can be read and written; objects are encrypted by {settings.label}"


def _explain(bucket: Bucket, error: BucketUnavailable) -> BucketFault:
    cause = error.__cause__ or error
    said = first_line(cause)
    # A store that says no will say it again; one that says nothing, or is broken, may get better.
    lasting = isinstance(cause, _REFUSALS) or "status code: 4" in said
    remedy = (
        f"check {PREFIX}URL, the AWS_ variables (endpoint, region, credentials), and their rights to put,"
        " get, list and delete below the prefix, and to use the KMS key"
        if lasting
        else "check that AWS_ENDPOINT_URL and AWS_REGION are right, and that this machine may reach the store"
    )
    return BucketFault(f"{bucket.url} can't be used: {said}", remedy, passing=not lasting)


def _look_at_encryption(bucket: Bucket, key: str, settings: BucketSettings) -> BucketFault | None:
    """Ask for the object as somebody else who may read it would, and see what the store says of it."""
    url = obstore.sign(bucket.store, "HEAD", key, _SIGNED_FOR)
    try:
        answer = httpx.head(url, timeout=_TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        told = f"{bucket.url} can't be asked how objects are encrypted ({type(error).__name__})"
        return BucketFault(told, "try again", passing=True)
    if settings.encryption == "sse-c":
        return _look_at_customer_key(bucket, answer)
    if answer.is_error:
        told = f"{bucket.url} refuses to say how objects are encrypted ({answer.status_code})"
        return BucketFault(told, "let the platform's credentials read objects by signed URLs")
    found = answer.headers.get(_HEADER)
    if settings.encryption == "bucket-default":
        if found is not None:
            return None
        return BucketFault(
            f"{bucket.url} doesn't encrypt objects",
            f"switch on default encryption of the bucket, or set {PREFIX}ENCRYPTION",
        )
    if found != settings.encryption:
        return BucketFault(
            f"{bucket.url} was asked for {settings.encryption}, and objects have {found or 'no encryption'}",
            f"use a store that can do {settings.encryption}, or set {PREFIX}ENCRYPTION to what this one can",
        )
    return _look_at_kms_key(bucket, answer, settings.kms_key_id)


def _look_at_customer_key(bucket: Bucket, answer: httpx.Response) -> BucketFault | None:
    if answer.status_code in _CUSTOMER_KEY_NEEDED:
        return None
    return BucketFault(
        f"{bucket.url} gives out objects without the customer's key",
        "use a store that can do SSE-C, over HTTPS, or another encryption",
    )


def _look_at_kms_key(bucket: Bucket, answer: httpx.Response, wanted: str | None) -> BucketFault | None:
    found = answer.headers.get(f"{_HEADER}-aws-kms-key-id", "")
    # An alias is answered with the key that it stands for.
    if wanted is None or "alias/" in wanted or found.rpartition("/")[2] == wanted.rpartition("/")[2]:
        return None
    return BucketFault(
        f"{bucket.url} was asked for the KMS key {wanted}, and objects have {found or 'none'}",
        f"check {PREFIX}KMS_KEY_ID",
    )
