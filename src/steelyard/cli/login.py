"""`login logout`: sign in through the organization's identity provider, in a browser."""

import base64
import hashlib
import http.server
import os
import secrets
import sys
import time
import webbrowser
from typing import Annotated
from urllib.parse import parse_qs, urlencode, urlsplit

import typer

from steelyard.cli.options import JsonFlag
from steelyard.cli.output import Screen, printable, write_json
from steelyard.cli.session import RETRY_POLICY, connect
from steelyard.client.credentials import credentials_file, forget_session, read_session, store_session
from steelyard.client.errors import ClientError, Unauthenticated, WaitTimedOut
from steelyard.client.sync_client import Client
from steelyard.kit.errors import InvalidRequest

_PAGE = b"<!doctype html><title>Steelyard</title><p>Signed in. You can close this window."
_POLL_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("login", rich_help_panel="Access")(login)
    app.command("logout", rich_help_panel="Access")(logout)


def login(
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser, or only print the address.")
    ] = True,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1.0, help="Give up after so long.")
    ] = 300.0,
    as_json: JsonFlag = False,
) -> None:
    """Sign in through the identity provider. The session is kept for this user and address, for 12 hours.

    On another machine than the browser's, use --no-browser, and paste the address that the browser ended at.
    """
    with connect() as client:
        told = client.login_information()
        if not told.enabled:
            raise InvalidRequest(f"{client.api_url} has no identity provider; use a token in STEELYARD_TOKEN")
        verifier = secrets.token_urlsafe(48)
        with _Waiting() as waiting:
            query = urlencode({"port": waiting.port, "challenge": _challenge(verifier)})
            _send_browser(f"{client.api_url}/login?{query}", open_one=browser)
            code = waiting.wait(timeout) if browser or not sys.stdin.isatty() else _ask_for_code()
        grant = client.exchange_login(code, verifier)
        path = credentials_file(os.environ)
        store_session(path, client.api_url, grant.token, time.time() + grant.expires_in_seconds)
        if as_json:
            write_json(grant.model_copy(update={"token": "(stored)"}))
            return
        Screen().print(f"Signed in to {printable(client.api_url)} as {printable(grant.principal)}.")


def logout(as_json: JsonFlag = False) -> None:
    """End one's sessions at the platform, browsers' too, and forget the one that is kept here.

    If the platform can't be reached the session is forgotten here all the same, but a copy of it would still
    be good there until it ends by itself.
    """
    path = credentials_file(os.environ)
    with connect() as client:
        api_url = client.api_url
    kept = read_session(path, api_url)
    try:
        ended = kept is not None and _end_sessions(api_url, kept)
    except ClientError as error:
        error.message = f"{error.message} The session is forgotten here, but wasn't ended at {api_url}."
        raise
    finally:
        known = forget_session(path, api_url)
    if as_json:
        write_json({"api_url": api_url, "forgotten": known, "ended": ended})
        return
    Screen().print(f"Signed out of {api_url}." if known else f"There was no session for {api_url}.")


def _end_sessions(api_url: str, token: str) -> bool:
    """End all sessions of whose session this is; False where it was over already."""
    try:
        with Client(api_url=api_url, token=token, retry=RETRY_POLICY) as client:
            client.sign_out()
    except Unauthenticated:
        return False
    return True


class _Waiting:
    """A local port that takes one code. Anybody on this machine may call it; only we know the verifier."""

    def __init__(self) -> None:
        waiting = self
        self.code: str | None = None

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code = parse_qs(urlsplit(self.path).query).get("code")
                self.send_response(200 if code else 404)
                self.send_header("Content-Type", "text/html")
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                if code:
                    self.wfile.write(_PAGE)
                    waiting.code = code[0]

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing: the line would hold the code."""

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self._server.timeout = _POLL_SECONDS
        self.port = self._server.server_port

    def __enter__(self) -> "_Waiting":
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.server_close()

    def wait(self, timeout_seconds: float) -> str:
        """Return the code.

        Raises:
            WaitTimedOut: nobody came.
        """
        deadline = time.monotonic() + timeout_seconds
        while self.code is None:
            if time.monotonic() > deadline:
                raise WaitTimedOut(
                    f"nobody signed in within {timeout_seconds:g} s; run 'steelyard login' again"
                )
            self._server.handle_request()
        return self.code


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _send_browser(url: str, *, open_one: bool) -> None:
    opened = open_one and webbrowser.open(url)
    words = "A browser opens; if it doesn't, go to" if opened else "Sign in at"
    Screen(stderr=True).print(f"{words}\n{url}", soft_wrap=True, highlight=False)


def _ask_for_code() -> str:
    answer = str(
        typer.prompt("Address that the browser ended at (or wait there, if it is this machine's)", err=True)
    )
    code = parse_qs(urlsplit(answer.strip()).query).get("code")
    if not code:
        raise InvalidRequest("that address holds no code; copy it whole: http://127.0.0.1:PORT/?code=...")
    return code[0]
