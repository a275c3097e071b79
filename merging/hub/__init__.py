"""Repositories on a Hub: names, pinned revisions, and the bytes of their files."""
