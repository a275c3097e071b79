"""How well one set of weights reads the tasks: no padding, one encoder, built once and given new weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.quality.encoder import Encoder, embed, put
from benchmarks.quality.texts import Split

# Tokens of a batch; its activations then lie in the processor's cache.
BATCH_TOKENS = 2048


class Judge:
    """Accuracy on every given split. Examples of equal length share batches, whatever their task.

    `bfloat16` is the precision of the encoder's products; states, embeddings and logits stay in float32.
    """

    def __init__(
        self, encoder: Encoder, heads: Mapping[str, Tensor], splits: Mapping[str, Split], bfloat16: bool = False
    ):
        self.encoder, self.heads, self.splits, self.bfloat16 = encoder, heads, splits, bfloat16
        rows = [row for split in splits.values() for row in split.rows]
        by_length: dict[int, list[int]] = {}
        for position, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(position)
        self._count = len(rows)
        self._batches = [
            (positions, torch.stack([rows[position] for position in positions.tolist()]))
            for length, found in sorted(by_length.items())
            for positions in torch.tensor(found).split(max(1, BATCH_TOKENS // length))
        ]

    def score(self, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Share of each split that an encoder with these trained tensors reads right."""
        put(self.encoder, tensors)
        self.encoder.eval()
        with torch.inference_mode():
            found = torch.empty(self._count, self.encoder.config.hidden_size)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                for positions, ids in self._batches:
                    found[positions] = embed(self.encoder, ids).float()
            parts = found.split([len(split) for split in self.splits.values()])
            pairs = zip(self.splits.items(), parts, strict=True)
            return {name: _right(part @ self.heads[name].T, split.labels) for (name, split), part in pairs}


def _right(logits: Tensor, labels: Tensor) -> float:
    # Where weights are not finite every answer is wrong, whatever argmax makes of NaN.
    right = (logits.argmax(1) == labels) & logits.isfinite().all(1)
    return int(right.sum()) / len(labels)


def mean(scores: Mapping[str, float]) -> float:
    """Mean over the tasks."""
    return sum(scores.values()) / len(scores)
