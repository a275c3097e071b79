"""Shapes in annotations are checked while the tests run; property tests are seeded and without deadlines."""

from __future__ import annotations

import os

os.environ["MERGING_CHECK_SHAPES"] = "1"

from hypothesis import settings
from jaxtyping import install_import_hook

import tests.shapes

install_import_hook(["merging.algebra", "merging.methods"], f"{tests.shapes.__name__}.check")

settings.register_profile("merging", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("merging")
