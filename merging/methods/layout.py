"""Which linear maps a stored tensor holds: fused projections, packed experts, kernels, weights stored the other way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from merging.lazy import Tensor, torch


@dataclass(frozen=True)
class Layout:
    """How a tensor's entries are linear maps; with nothing said one map (out, rest), of a convolution's kernel as well.

    each    the first of three axes counts maps: packed experts
    turned  stored (in, out), as by GPT-2
    parts   so many maps follow each other along the outputs: fused projections
    heads   they do so within each of so many heads, as GPT-NeoX has it, and not over all outputs

    What does not fit a tensor's shape does not hold for it.

    >>> Layout.read("turned parts=3").labels((4, 12)), Layout(each=True).labels((2, 4, 4)), Layout().labels((4, 3, 3))
    (('1', '2', '3'), ('1', '2'), ('',))
    """

    each: bool = False
    turned: bool = False
    parts: int = 1
    heads: int = 1

    @classmethod
    def read(cls, text: str) -> Layout:
        """The layout in a family's words: "each", "turned", "parts=3", "heads=12", in any order."""
        words = dict(word.partition("=")[::2] for word in text.split())
        numbers = {name: int(words[name]) for name in ("parts", "heads") if name in words}
        return cls("each" in words, "turned" in words, **numbers)

    def is_stacked(self, shape: Sequence[int]) -> bool:
        """Whether the first axis counts maps."""
        return self.each and len(shape) == 3 and shape[0] > 0

    def is_kernel(self, shape: Sequence[int]) -> bool:
        """Whether the map is a convolution's: more than two axes belong to it."""
        return len(shape) > 2 and not self.is_stacked(shape)

    def sides(self, shape: Sequence[int]) -> tuple[int, int]:
        """(out, in) of one map; (entries, 1) of a vector.

        >>> Layout.read("turned parts=3").sides((4, 12)), Layout().sides((4, 3, 3)), Layout(each=True).sides((8, 4, 5))
        ((4, 4), (4, 9), (4, 5))
        """
        _, rows, columns = self._stored(shape)
        outputs, inputs = (columns, rows) if self.turned else (rows, columns)
        return outputs // self._parts(outputs), inputs

    def labels(self, shape: Sequence[int]) -> tuple[str, ...]:
        """A number from 1 for each map, "" where there is only one."""
        maps, rows, columns = self._stored(shape)
        count = maps * self._parts(columns if self.turned else rows)
        return tuple(map(str, range(1, count + 1))) if count > 1 else ("",)

    def split(self, x: Tensor, shape: Sequence[int]) -> list[Tensor]:
        """(*lead, entries) as maps (*lead, out, in), views where that is possible."""
        y = x.reshape(*x.shape[:-1], *self._stored(shape))
        y = y.mT if self.turned else y
        *lead, maps, outputs, inputs = y.shape
        parts = self._parts(outputs)
        heads = self.heads if parts > 1 else 1
        y = y.reshape(*lead, maps, heads, parts, outputs // (heads * parts), inputs)
        return [y[..., i, :, part, :, :].flatten(-3, -2) for i in range(maps) for part in range(parts)]

    def join(self, maps: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """The entries of all maps, stored as the tensor is."""
        if len(maps) == 1 and not self.turned:
            return maps[0].reshape(-1)
        stacked = self._stored(shape)[0]
        parts = len(maps) // stacked
        heads = self.heads if parts > 1 else 1
        outputs, inputs = maps[0].shape
        y = torch.stack([each.reshape(heads, outputs // heads, inputs) for each in maps])
        y = y.reshape(stacked, parts, heads, outputs // heads, inputs).transpose(1, 2)
        y = y.reshape(stacked, heads * parts * (outputs // heads), inputs)
        flat: Tensor = (y.mT if self.turned else y).reshape(-1)
        return flat

    def _stored(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Number of stored matrices, and their rows and columns."""
        if self.is_stacked(shape):
            return shape[0], shape[1], shape[2]
        return 1, shape[0] if shape else 1, prod(shape[1:])

    def _parts(self, outputs: int) -> int:
        return self.parts if outputs and outputs % (self.parts * self.heads) == 0 else 1


PLAIN = Layout()


def by_matrix(rule: Callable[..., Tensor], shape: Sequence[int], layout: Layout, *operands: Tensor | None) -> Tensor:
    """A rule of matrices (out, in) applied to each linear map of a tensor.

    Operands are (entries,), (models, entries) or None.

    >>> by_matrix(lambda x: x.sum(0), (2, 3), Layout(), torch.ones(4, 6)).shape
    torch.Size([6])
    """
    count = len(layout.labels(shape))
    views = [[None] * count if x is None else layout.split(x, shape) for x in operands]
    return layout.join([rule(*(view[i] for view in views)) for i in range(count)], shape)
