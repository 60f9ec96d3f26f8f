"""What a `Content-Type` says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sources.media import MediaType, media_type


@pytest.mark.parametrize(
    ("told", "name", "charset"),
    [
        ("text/html", "text/html", None),
        ("Text/HTML; Charset=ISO-8859-1", "text/html", "ISO-8859-1"),
        ('text/html ;charset="utf-8" ; x=1', "text/html", "utf-8"),
        ("text/html; x=1; charset=cp1252", "text/html", "cp1252"),
        ("text/html;charset*", "text/html", None),
        ("text/html; charset=\udcff", "text/html", None),
        ("text/html; charset*0=a; charset*1*=%", "text/html", None),
        ("; charset=utf-8", "", "utf-8"),
        ("", "", None),
    ],
)
def test_what_is_said(told: str, name: str, charset: str | None) -> None:
    assert media_type({"Content-Type": told}) == (name, charset)


@given(st.text(max_size=60) | st.text(alphabet="text/html;charset*=\"' 0%", max_size=60))
def test_nothing_is_raised(told: str) -> None:
    assert media_type({"Content-Type": told}).name == told.partition(";")[0].strip().lower()


def test_nothing_said() -> None:
    assert media_type({}) == MediaType("", None)
