"""Shapes in annotations are checked while the tests run; property tests are seeded and without deadlines."""

from __future__ import annotations

import os

os.environ["MERGING_CHECK_SHAPES"] = "1"

import torch
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

import tests.shapes

install_import_hook(["merging.algebra", "merging.methods"], f"{tests.shapes.__name__}.check")

# Tensors here are tiny: handing them to a second thread costs more than the arithmetic.
torch.set_num_threads(1)

settings.register_profile(
    "merging",
    deadline=None,
    derandomize=True,
    print_blob=True,
    # A method that refuses three draws of four still gets its examples.
    suppress_health_check=[HealthCheck.filter_too_much],
)
settings.load_profile("merging")
