"""One worker's reusable buffers, on the device where its blocks are computed.

The first touch of fresh memory costs more than the arithmetic on it, so a worker keeps its buffers for the whole run.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from math import prod
from typing import Any

from merging.errors import OutputError
from merging.lazy import Float, Tensor, torch

# glibc's names for its settings, and sizes: freed memory up to the first is kept, blocks below the second are reused.
M_TRIM_THRESHOLD, KEPT_BYTES = -1, 256 << 20
M_MMAP_THRESHOLD, REUSED_BYTES = -3, 32 << 20


@cache
def keep_freed_memory() -> None:
    """Have the allocator reuse a block's temporaries instead of handing them back to the kernel and asking again."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(M_MMAP_THRESHOLD, REUSED_BYTES)


def require_device(device: str) -> None:
    """Raise OutputError unless blocks can be computed there."""
    if device == "cpu":
        return
    found = torch.cuda.device_count()
    number = int(device.partition(":")[2] or 0)
    if number >= found:
        raise OutputError(
            f"there is no {device} here",
            must_be="cpu" if not found else ", ".join(["cpu", *(f"cuda:{i}" for i in range(found))]),
            fix="leave --device out to compute on the processor"
            if found
            else "leave --device out, or install a torch build with CUDA on a machine that has an accelerator",
        )


class Lane:
    """Float32 scratch by role, and transfers to and from the device."""

    def __init__(self, device: str = "cpu"):
        self.device = device
        self._on_cpu = device == "cpu"
        self._scratch: dict[str, Tensor] = {}
        self._pinned: dict[tuple[str, Any], Tensor] = {}

    def stream(self) -> AbstractContextManager[Any]:
        """A stream of this worker's own, so that one worker's transfers overlap another's arithmetic."""
        if not self.device.startswith("cuda"):
            return nullcontext()
        return torch.cuda.stream(torch.cuda.Stream(self.device))  # type: ignore[no-untyped-call]

    def scratch(self, role: str, *shape: int) -> Float[Tensor, "*shape"]:
        """A float32 buffer of this shape with any content; the same memory for the same role."""
        entries = prod(shape)
        held = self._scratch.get(role)
        if held is None or held.numel() < entries:
            held = self._scratch[role] = torch.empty(entries, dtype=torch.float32, device=self.device)
        return held[:entries].view(shape)

    def load(self, raw: Tensor, into: Float[Tensor, " n"], role: str) -> None:
        """Stored entries as float32 on the device; what `into` has beyond them becomes zero."""
        entries, filled = raw.numel(), into
        if entries < into.numel():
            filled = into[:entries]
            into[entries:].zero_()
        if self._on_cpu:
            filled.copy_(raw)
        else:
            filled.copy_(self._staged(raw, role), non_blocking=True)

    def _staged(self, raw: Tensor, role: str) -> Tensor:
        """A pinned copy, from which the device can fetch while the processor goes on."""
        key = (role, raw.dtype)
        held = self._pinned.get(key)
        if held is None or held.numel() < raw.numel():
            held = self._pinned[key] = torch.empty(
                raw.numel(), dtype=raw.dtype, pin_memory=self.device.startswith("cuda")
            )
        held[: raw.numel()].copy_(raw)
        return held[: raw.numel()]

    def store(self, block: Float[Tensor, " n"], dtype: Any) -> Tensor:
        """A fresh block in its stored dtype on the cpu; the one rounding of the merge. Waits for the device."""
        return block.to(dtype, copy=True).cpu()

    def release(self, roles: Sequence[str]) -> None:
        """Give back the large buffers of a whole-tensor step."""
        for role in roles:
            self._scratch.pop(role, None)
