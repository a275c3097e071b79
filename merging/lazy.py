"""torch on first use, so that `merging check` answers in a fraction of the second that importing torch takes.

Modules write `from merging.lazy import torch` and use it as ever. Annotations are never evaluated at run time
(`from __future__ import annotations`), except in tests, which set MERGING_CHECK_SHAPES to have jaxtyping check them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or os.environ.get("MERGING_CHECK_SHAPES"):
    import torch as torch
    from jaxtyping import Bool as Bool
    from jaxtyping import Float as Float
    from jaxtyping import Int as Int
    from torch import Tensor as Tensor
else:

    class _Torch:
        """Stands in for the torch module; each attribute is looked up once."""

        def __getattr__(self, name: str) -> Any:
            import torch as real

            value = getattr(real, name)
            setattr(self, name, value)
            return value

    class _Shape:
        """Stands in for a jaxtyping annotation outside the tests."""

        def __getitem__(self, _: object) -> Any:
            return Any

    torch = _Torch()
    Bool = Float = Int = _Shape()
    Tensor = Any
