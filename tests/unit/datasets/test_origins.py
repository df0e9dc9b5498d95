"""Where ingests may read from: prefixes that the operator allows, and no way around them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.datasets.origins import refuse_uri

_ALLOWED = ("s3://team-bucket/raw/", "hf://datasets/acme/")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://team-bucket/raw/",
        "s3://team-bucket/raw/chats.jsonl",
        "s3://team-bucket/raw/2026/a%20b.jsonl",
        "hf://datasets/acme/chats",
        "hf://datasets/acme/chats@main/data/train.jsonl",
    ],
)
def test_what_lies_below_a_prefix_may_be_read(uri: str) -> None:
    assert refuse_uri(uri, _ALLOWED) is None


@pytest.mark.parametrize(
    "uri",
    [
        "s3://team-bucket/rawest/secret.jsonl",
        "s3://team-bucket/raw",
        "s3://team-bucket/raw/../secret.jsonl",
        "s3://team-bucket/raw/%2e%2e/secret.jsonl",
        "s3://team-bucket/raw/..%2fsecret.jsonl",
        "s3://team-bucket/raw/./../secret.jsonl",
        "s3://team-bucket/raw%2F..%2Fsecret.jsonl",
        "s3://team-bucket/raw/..\\secret.jsonl",
        "s3://team-bucket/raw/\n../secret.jsonl",
        "s3://team-bucket/raw/a.jsonl?versionId=1",
        "s3://team-bucket/raw/a.jsonl#x",
        "s3://key:secret@team-bucket/raw/a.jsonl",
        "s3://team-bucket:9000/raw/a.jsonl",
        "S3://team-bucket/raw/a.jsonl",
        "hf://datasets/acmes/chats",
        "hf://datasets/acme%2Fchats",
        "hf://models/acme/chats",
        "http://169.254.169.254/latest/meta-data",
        "https://team-bucket/raw/a.jsonl",
        "file:///etc/passwd",
        "gs://team-bucket/raw/a.jsonl",
        "/etc/passwd",
        "../../etc/passwd",
        "-",
        "",
    ],
)
def test_all_else_is_refused_with_a_reason(uri: str) -> None:
    assert refuse_uri(uri, _ALLOWED)
    assert refuse_uri(uri, ())


@given(st.text(max_size=80))
def test_nothing_that_follows_a_prefix_leads_out_of_it(rest: str) -> None:
    uri = f"s3://team-bucket/raw/{rest}"
    if refuse_uri(uri, _ALLOWED) is None:
        segments = uri.split("/")
        assert ".." not in segments
        assert "\\" not in uri
        assert uri.isascii()
    assert refuse_uri(f"s3://other-bucket/{rest}", _ALLOWED)
