"""Where webhooks may go, and how they are signed."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from steelyard.kit.errors import InvalidRequest
from steelyard.rollouts.addresses import AddressPolicy, read_target, refuse_addresses
from steelyard.rollouts.signatures import WebhookSecrets, sign

STRICT = AddressPolicy()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "ftp://example.com",
        "https://",
        "https://user:secret@example.com/hook",
        "https://127.0.0.1/hook",
        "https://10.0.0.7/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/hook",
        "https://[fd00::1]/hook",
        "https://[::ffff:10.0.0.1]/hook",
        "https://example.com:99999/",
        "https://exam ple.com/",
        "file:///etc/passwd",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        read_target(url, STRICT)


def test_urls_that_are_taken() -> None:
    assert read_target("https://example.com/hook?x=1", STRICT).port == 443
    assert read_target("https://example.com:8443/hook", STRICT).port == 8443
    lax = AddressPolicy(allow_http=True, allow_private=True)
    assert read_target("http://127.0.0.1/hook", lax).port == 80


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_addresses_inside_are_refused(address: str) -> None:
    assert refuse_addresses([address], STRICT) is not None
    assert refuse_addresses(["93.184.216.34", address], STRICT) is not None
    assert refuse_addresses([address], AddressPolicy(allow_private=True)) is None


def test_public_addresses_are_taken_and_none_is_not() -> None:
    assert refuse_addresses(["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"], STRICT) is None
    assert refuse_addresses([], STRICT) is not None


def test_signatures_are_those_of_standard_webhooks() -> None:
    # The example of the specification's own libraries.
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_webhook_has_a_key_of_its_own_and_the_receiver_can_check() -> None:
    secrets = WebhookSecrets(b"k" * 32)
    assert secrets.secret_of("hook_1") != secrets.secret_of("hook_2")
    headers = secrets.headers("hook_1", "dlv_1", datetime(2026, 1, 1, tzinfo=UTC), b"{}")
    key = base64.b64decode(secrets.secret_of("hook_1").removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{{}}".encode()
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
