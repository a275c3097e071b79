"""Pieces of files that the Hub keeps in Xet: from its own storage, by chunks, in little memory."""

from __future__ import annotations

from functools import cache
from typing import Any

from merging.hub.client import Hub

# Its own defaults hold gigabytes ahead of who reads; our pages are what is held ahead.
_MEMORY = {
    "reconstruction.download_buffer_size": 64_000_000,
    "reconstruction.download_buffer_perfile_size": 16_000_000,
    "reconstruction.download_buffer_limit": 128_000_000,
    "reconstruction.min_prefetch_buffer": 16_000_000,
    "reconstruction.min_reconstruction_fetch_size": 16_000_000,
}


def is_offered(place: Any) -> bool:
    """Whether what the Hub told of a file leads to Xet, and Xet may be used."""
    from huggingface_hub import constants
    from huggingface_hub.utils._runtime import is_xet_available

    return place is not None and not constants.HF_HUB_DISABLE_XET and bool(is_xet_available())


def xet_range(hub: Hub, place: Any, size: int, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of a file of `size` bytes; `place` is what the Hub told of it. Raises what Xet raises."""
    from hf_xet import XetFileInfo
    from huggingface_hub.utils._xet import refresh_xet_connection_info, xet_headers_without_auth

    headers = hub.headers()
    found = refresh_xet_connection_info(file_data=place, headers=headers)
    group = _session().new_download_stream_group(
        endpoint=found.endpoint,
        token=found.access_token,
        token_expiry_unix_secs=found.expiration_unix_epoch,
        token_refresh_url=place.refresh_route,
        token_refresh_headers=headers,
        custom_headers=xet_headers_without_auth(headers),
    )
    content = b"".join(group.download_stream(XetFileInfo(place.file_hash, size), start, stop))
    if len(content) != stop - start:
        raise ConnectionError(f"Xet gave {len(content):,} bytes of {stop - start:,}")
    return content


@cache
def _session() -> Any:
    from hf_xet import XetConfig, XetSession

    return XetSession(XetConfig().with_config(_MEMORY))
