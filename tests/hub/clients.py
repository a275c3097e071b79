"""The real clients in this process, pointed at a loopback Hub and at nothing else of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from tests.hub.server import HubServer


@contextmanager
def in_this_process(hub: HubServer, cache: Path) -> Iterator[None]:
    """Xet on or off as on the Hub, no telemetry, caches in a folder of one's own, and nothing remembered of before.

    huggingface_hub reads most settings when it is imported, and a subprocess needs only `hub.environment()`; a test
    that calls it in its own process wants this. Pass `endpoint=` and `token=` all the same.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import _xet, close_session

    settings = {
        "HF_HUB_DISABLE_XET": not hub.xet,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_XET_CACHE": str(cache / "xet"),
    }
    with patch.multiple(constants, **settings), patch.dict(os.environ, hub.xet_environment(cache / "xet")):
        # Tokens of Xet are kept by address of the Hub, and a port may come again.
        _xet.XET_CONNECTION_INFO_CACHE.clear()
        try:
            yield
        finally:
            close_session()
