"""Files that travel with the weights: tokenizer, chat template, generation and input settings; and config.json.

Never code: .py files are only reported. Never weights, and never the model card, which is written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from merging.checkpoint.bytes import LocalBytes
from merging.checkpoint.folders import follow
from merging.checkpoint.sink import write_whole
from merging.checkpoint.tensors import DTYPES, Checkpoint
from merging.errors import OutputError

_NAMES = """
    tokenizer.json tokenizer_config.json tokenizer.model special_tokens_map.json added_tokens.json tekken.json
    vocab.json vocab.txt vocab.bpe merges.txt bpe.codes encoder.json normalizer.json spiece.model spm.model
    sentencepiece.bpe.model source.spm target.spm target_vocab.json
    chat_template.jinja chat_template.json generation_config.json model_index.json
    modules.json sentence_bert_config.json config_sentence_transformers.json
"""
NAMES = frozenset(_NAMES.split())
_PATTERNS = re.compile(
    r"(.+_)?(pre)?processor_config\.json|(.+_)?feature_extractor_config\.json|.+\.tiktoken"
    r"|additional_chat_templates/[^/]+\.jinja|\d+_\w+/config\.json"
)
_FOLDERS = re.compile(r"additional_chat_templates|\d+_\w+")


def find_sidecars(folder: Path) -> dict[str, Path]:
    """The sidecars of a checkpoint folder, by their names relative to it.

    Raises CheckpointError for one that is a link out of the folder: it would carry a private file into the output.
    """
    names = [each.name for each in folder.iterdir() if each.is_file()]
    for inner in folder.iterdir():
        if inner.is_dir() and _FOLDERS.fullmatch(inner.name):
            names += [f"{inner.name}/{each.name}" for each in inner.iterdir() if each.is_file()]
    return {name: follow(folder, name) for name in sidecar_names(names)}


def sidecar_names(names: Iterable[str]) -> list[str]:
    """Those of a checkpoint's file names, relative to it, that travel with the weights."""
    return [name for name in sorted(names) if name in NAMES or _PATTERNS.fullmatch(name)]


def find_code(folder: Path) -> tuple[str, ...]:
    """Names of the .py files of a checkpoint folder: its model may not load without them, and they are never copied."""
    return tuple(sorted(each.name for each in folder.glob("*.py")))


def copy_sidecars(checkpoint: Checkpoint, folder: Path) -> list[Path]:
    """Copy a checkpoint's sidecars into a folder; returns the copies. Raises OutputError."""
    copies = []
    for name, source in checkpoint.sidecars().items():
        copy = folder / name
        if copy.parent != folder:
            if copy.parent.is_symlink():
                raise OutputError(f"{copy.parent} is a link", must_be="a folder")
            copy.parent.mkdir(parents=True, exist_ok=True)
        original = LocalBytes(source)
        content = bytearray(original.size)
        original.read_into(0, memoryview(content))
        copies.append(write_whole(copy, bytes(content)))
    return copies


def with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A model's config that names another dtype, a safetensors name, under the key that it already uses.

    >>> with_dtype({"torch_dtype": "bfloat16"}, "F32")
    {'torch_dtype': 'float32'}
    """
    key = "dtype" if "dtype" in config else "torch_dtype"
    name = DTYPES[dtype].torch_name
    changed = {**config, key: name}
    for part, value in config.items():
        # The text and vision parts of a multimodal model name their dtype again.
        if part.endswith("_config") and part != "quantization_config" and isinstance(value, dict):
            named = {inner: name for inner in ("dtype", "torch_dtype") if isinstance(value.get(inner), str)}
            changed[part] = {**value, **named}
    return changed


def write_config(config: Mapping[str, Any], folder: Path) -> Path:
    """Write config.json, keys in the order given."""
    return write_whole(folder / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
