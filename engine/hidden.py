"""Passwords stay out of what people and files are shown: whatever looks like one in a URL is hidden.

A URL that can't be read is hidden too: between `://` and the line's last `@` stands a password, whatever it holds; but a port,
and perhaps a database, with which a URL of no password ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

STARS = "***"

_IN_URL = (
    re.compile(r"(://[^\s:@/]*):(?!\d+(?:/\d*)?(?:[:,;)\s]|$)).*@"),
    re.compile(r"(://[^\s:]*):\S+@"),             # a user's name may hold @ and /
)
_IN_QUERY = re.compile(r"((?:^|[?&])(?:ssl_)?password=)[^&\s]+", re.MULTILINE)


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the passwords of URLs in it, and without `secrets`, as they are and as a URL would write them."""
    for in_url in _IN_URL:
        text = in_url.sub(rf"\1:{STARS}@", text)
    text = _IN_QUERY.sub(rf"\1{STARS}", text)
    for secret in filter(None, secrets):
        for spelling in {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}:
            text = text.replace(spelling, STARS)
    return text
