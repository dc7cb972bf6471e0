"""Passwords and tokens of a study's storage are never printed, however its URL is written."""

from __future__ import annotations

import pytest

from lrfdse.cli.interrupt import advice
from lrfdse.errors import LrfdseError
from lrfdse.search.study.storage import open_storage
from lrfdse.search.study.urls import masked, reason_without_secrets, without_credentials

FORMS = [
    "postgresql://me:S3cret@db.lan/studies",
    "postgresql+psycopg2://me:S3cret@db.lan:5432/studies",
    "postgresql:/me:S3cret@db.lan/studies",
    "postgresql:me:S3cret@db.lan/studies",
    "postgresql:/me:S3cret@db.lan/studies.db",
    "postgresql:/me:S3cret@db.lan/studies.journal",
    "postgresql://db.lan/studies?password=S3cret",
    "postgresql://db.lan/studies?user=me&password=S3cret&sslmode=require",
    "postgresql://db.lan/studies?password=a@S3cret",
    "postgresql://db.lan:5432/studies?options=-c%20x=a@S3cret",
    "postgresql://me:S3cret?x@db.lan/studies",
    "postgresql://me:S3cret?x=1@db.lan/studies",
    "postgresql://me:S3cret/x@y@db.lan/studies",
    "postgresql://me:S3cret",
    "postgresql://me@db.lan/studies?sslpassword=S3cret",
    "sqlite://me:S3cret@h/x.db",
    "sqlite:///x.db?key=S3cret",
    "mysql://me:S3cret@db.lan/studies",
    "grpc://me:S3cret@db.lan:1",
    "me:S3cret@db.lan/studies",
    "host=db.lan user=me password=S3cret dbname=x",
    "unknown://me:S3cret@db.lan/studies",
]


@pytest.mark.parametrize("url", FORMS)
def test_no_form_of_a_url_shows_its_secret(url):
    assert "S3cret" not in without_credentials(url)
    assert "S3cret" not in masked(url)
    for arguments in (["explore", "m.onnx", "--study", url], ["worker", f"--study={url}"]):
        assert "S3cret" not in advice("lrfdse", arguments)


@pytest.mark.slow
@pytest.mark.parametrize("url", FORMS[2:6] + FORMS[15:16] + FORMS[18:])
def test_a_storage_that_cannot_be_opened_is_named_without_its_secret(url, tmp_path, monkeypatch):
    """Of those that need no server to be refused; none makes a folder of the URL's pieces."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LrfdseError) as raised:
        open_storage(url)
    assert "S3cret" not in str(raised.value) and "--study" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "study.journal",
        "results/a b/study.db",
        "runs/me@lab/study.db",
        "sqlite:////data/me@lab/study.db",
        "a:b/x.journal",
    ],
)
def test_paths_are_shown_as_they_are(text):
    assert without_credentials(text) == masked(text) == text


def test_who_interrupts_can_fill_the_password_in_again():
    url = "postgresql://me:S3cret@db.lan:5432/x?sslmode=require&sslpassword=S3cret"
    assert masked(url) == "postgresql://me:PASSWORD@db.lan:5432/x?sslmode=require&sslpassword=PASSWORD"
    words = ["explore", "m", "--runner", "command:ssh me@board", "--study", url]
    assert advice("lrfdse", words).endswith(f"lrfdse explore m --runner 'command:ssh me@board' --study '{masked(url)}'")


def test_a_reason_that_repeats_a_secret_is_not_told():
    error = ValueError("cannot parse 'S3cret' of the address")
    for url in ("postgresql://h/d?password=S3cret", "postgresql:/me:S3cret@h/d", "mysql://me:S3cret@h/d?pwd=y"):
        assert "S3cret" not in reason_without_secrets(url, error)
