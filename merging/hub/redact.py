"""Secrets taken out of texts before anyone sees them: tokens, and the signatures of signed addresses."""

from __future__ import annotations

import re

_SECRETS = re.compile(
    r"hf_(?:oauth|jwt)_[\w.-]{8,}|hf_[A-Za-z0-9]{8,}"
    r"|(?<=Bearer )[^\s'\",;]+"
    r"|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"
    r"|(?<=\?)[^\s'\"<>)]*(?:[Ss]ignature|[Tt]oken|[Kk]ey|[Ee]xpires|[Pp]olicy|[Ss]ig)[^\s'\"<>)]*"
)
HIDDEN = "<TOKEN>"


def redacted(text: str) -> str:
    """The text without secrets.

    >>> redacted("401 for hf_abcdefghij at https://cdn/x?Expires=1&Signature=s")
    '401 for <TOKEN> at https://cdn/x?<TOKEN>'
    """
    return _SECRETS.sub(HIDDEN, text)
