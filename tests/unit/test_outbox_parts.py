import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from persistence.errors import ConfigurationError
from persistence.outbox import Backoff, Worker
from persistence.outbox.http_handler import HttpPost, retry_after, signature
from persistence.outbox.public_network import PrivateTarget, is_public, public_address


def test_backoff_is_exponential_with_full_jitter_and_a_cap() -> None:
    backoff = Backoff(base=1, cap=8)
    for attempt, limit in ((1, 1), (2, 2), (3, 4), (4, 8), (10, 8), (2000, 8)):
        delays = [backoff.delay(attempt) for _ in range(400)]
        assert 0 <= min(delays) < limit / 10
        assert limit * 0.9 < max(delays) <= limit


def test_the_signature_is_that_of_standard_webhooks() -> None:
    expected = base64.b64encode(hmac.new(b"key", b'msg_1.1700000000.{"a":1}', hashlib.sha256).digest()).decode()
    assert signature(b"key", "msg_1", "1700000000", b'{"a":1}') == f"v1,{expected}"


def test_secrets_are_read_as_standard_webhooks_writes_them() -> None:
    assert HttpPost({"default": "whsec_" + base64.b64encode(b"key").decode()})._keys == {"default": b"key"}
    with pytest.raises(ConfigurationError, match="'default'.*not base64"):
        HttpPost({"default": "whsec_!"})
    for empty in ("", "whsec_"):
        with pytest.raises(ConfigurationError, match="is empty"):
            HttpPost({"default": empty})
    with pytest.raises(ConfigurationError, match="says of no tenant"):
        HttpPost({"acme": "secret"})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("Sun, 04 Jan 2026 00:01:00 GMT", 60.0),
        ("Sat, 03 Jan 2026 00:00:00 GMT", 0.0),
        ("9999999", 86400.0),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, datetime(2026, 1, 4, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "224.0.0.1",
    ],
)
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1", "::7f00:1", "::8.8.8.8", "fec0::1", "5f00::1", "3fff::1", "192.0.0.9", "192.0.0.170",
        "192.88.99.1", "2002:7f00:1::", "2001::1", "100::1", "::ffff:10.0.0.1", "100.64.0.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "fe80::1%eth0",
    ],
)  # fmt: skip
def test_special_purpose_addresses_are_not_public_on_any_python(address: str) -> None:
    assert not is_public(address)


def test_public_addresses_are() -> None:
    assert is_public("::ffff:8.8.8.8")
    assert is_public("8.8.8.8")
    assert is_public("2606:4700::1111")


async def test_a_name_for_a_private_address_is_refused() -> None:
    with pytest.raises(PrivateTarget, match="not public"):
        await public_address("localhost", 80)


def test_one_effect_type_has_one_handler_with_sound_settings() -> None:
    worker = Worker()
    worker.handler("A")(HttpPost())
    with pytest.raises(ConfigurationError, match="A has a handler already"):
        worker.handler("A")(HttpPost())
    with pytest.raises(ConfigurationError, match="concurrency is 0 .give a number, at least 1"):
        worker.handler("B", concurrency=0)(HttpPost())
