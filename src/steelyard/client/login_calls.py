"""The calls of a sign-in, built from plain arguments."""

from steelyard.client.call import Call
from steelyard.specs.login import LoginExchange, LoginInformation, SessionGrant


def information() -> Call[LoginInformation]:
    """Ask whether and through whom one signs in."""
    return Call("GET", "/v1/login", LoginInformation.model_validate_json)


def exchange(code: str, verifier: str) -> Call[SessionGrant]:
    """Exchange a command's code for a session."""
    content = LoginExchange(code=code, verifier=verifier).model_dump_json().encode()
    return Call("POST", "/v1/login/exchange", SessionGrant.model_validate_json, content=content)
