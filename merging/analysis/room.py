"""Room for what is worked out of one block, seen in every way in which it is needed.

Every call of a view, however short, lets another worker's thread in and then waits for it; with blocks of a millisecond
that costs more than the arithmetic. So the views of a block are made once and used for all blocks of the same memory.
"""

from __future__ import annotations

from merging.lazy import Float, Tensor, torch


class Room:
    """Buffers for blocks `x`, of `(1 + models, entries)` in float32 or float64, and views of both.

    Of the entries every `sampled`-th is counted: `samples` are the ways to begin.
    """

    def __init__(self, x: Float[Tensor, "inputs n"], sampled: int):
        self.block = x
        self.rows = x.unbind()
        self.pairs = tuple((first, second) for i, first in enumerate(self.rows) for second in self.rows[i:])
        self.tau, self.taus = x[1:], self.rows[1:]
        self.line = self.tau.reshape(-1)
        self.wide = torch.empty_like(self.tau)
        self.wide_line, self.wide_rows = self.wide.view(-1), self.wide.unbind()
        self.total = torch.empty_like(self.rows[0])
        self.samples = [self.tau[:, k::sampled] for k in range(sampled)]
        shape = self.samples[-1].shape
        self.half = torch.empty(shape, dtype=torch.float16)
        self.half_bits = self.half.view(torch.int16)
        self.bits = torch.empty(shape, dtype=torch.int16)
        self.codes = torch.empty(shape, dtype=torch.uint8)
        self.code_rows = self.codes.unbind()
