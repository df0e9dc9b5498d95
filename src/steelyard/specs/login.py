"""Signing in through an identity provider."""

from typing import Annotated

from pydantic import Field

from steelyard.specs.base import Message, Spec


class LoginInformation(Message):
    """Whether and through whom one signs in."""

    enabled: bool
    issuer: str | None = None


class LoginExchange(Spec):
    """A command's code, and the verifier that only the command knows."""

    code: Annotated[str, Field(min_length=1, max_length=4096)]
    verifier: Annotated[str, Field(min_length=43, max_length=128)]


class SessionGrant(Message):
    """A session of somebody who signed in."""

    token: str
    principal: str
    expires_in_seconds: int
