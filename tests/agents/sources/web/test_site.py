"""What is named on the command line."""

import pytest

from agents.sources.patterns import Patterns
from agents.sources.reading import Ids
from agents.sources.web.aim import Plan
from agents.sources.web.site import Manners, site_sources
from streams.errors import ConfigError


@pytest.mark.parametrize("url", ["https://bob:s3cr3t@example.org/", "https://bob:s3cr3t/@example.org/", "example.org"])
def test_a_url_that_is_none_is_refused_without_its_login(url: str) -> None:
    with pytest.raises(ConfigError, match="example.org/?: a URL such as https://example.org/") as refused:
        site_sources([url], Ids(), Patterns(), Plan(), Manners())
    assert "s3cr3t" not in str(refused.value)
