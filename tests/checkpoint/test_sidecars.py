"""What travels with the weights, and what must not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merging.checkpoint.shards import open_checkpoint
from merging.checkpoint.sidecars import copy_sidecars, find_code, find_sidecars, with_dtype, write_config
from merging.errors import CheckpointError, OutputError

TRAVEL = [
    "added_tokens.json",
    "additional_chat_templates/tools.jinja",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "image_processor_config.json",
    "merges.txt",
    "model_index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "qwen.tiktoken",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
]
STAY = [
    ".gitattributes",
    "README.md",
    "additional_chat_templates/run.py",
    "config.json",
    "modeling_custom.py",
    "optimizer.pt",
    "pytorch_model.bin",
    "trainer_state.json",
    "training_args.bin",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "model"
    for name in TRAVEL + STAY:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("{}")
    save_file({"a": torch.ones(1)}, source / "model.safetensors")
    return source


def test_tokenizer_templates_and_settings_travel_and_nothing_else(folder: Path) -> None:
    assert list(find_sidecars(folder)) == TRAVEL
    assert list(open_checkpoint(folder).sidecars()) == TRAVEL


def test_copies_are_equal_and_lie_where_they_lay(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_bytes(bytes(range(256)))
    out = tmp_path / "out"
    out.mkdir()
    copies = copy_sidecars(open_checkpoint(folder), out)
    assert sorted(path.relative_to(out).as_posix() for path in copies) == TRAVEL
    assert all((out / name).read_bytes() == (folder / name).read_bytes() for name in TRAVEL)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == TRAVEL


def test_code_is_reported(folder: Path) -> None:
    assert find_code(folder) == ("modeling_custom.py",)


def test_a_link_to_a_private_file_is_not_carried_into_the_output(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "vocab.bpe").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match=r"vocab\.bpe is a link that leads out"):
        find_sidecars(folder)


def test_a_link_in_the_output_is_not_written_through(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "tokenizer.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is a link"):
        copy_sidecars(open_checkpoint(folder), out)
    assert not (tmp_path / "elsewhere").exists()


def test_the_dtype_goes_under_the_key_that_is_there() -> None:
    assert with_dtype({"dtype": "float32"}, "BF16") == {"dtype": "bfloat16"}
    assert with_dtype({"torch_dtype": "float32", "a": 1}, "F16") == {"torch_dtype": "float16", "a": 1}
    assert with_dtype({}, "F32") == {"torch_dtype": "float32"}


def test_the_parts_of_a_multimodal_model_name_the_same_dtype() -> None:
    config = {
        "torch_dtype": "float32",
        "text_config": {"torch_dtype": "float32"},
        "vision_config": {"depth": 2},
        "quantization_config": {"dtype": "int8"},
    }
    changed = with_dtype(config, "BF16")
    assert changed["text_config"] == {"torch_dtype": "bfloat16"}
    assert changed["vision_config"] == {"depth": 2}
    assert changed["quantization_config"] == {"dtype": "int8"}
    assert config["text_config"] == {"torch_dtype": "float32"}


def test_a_written_config_reads_back(tmp_path: Path) -> None:
    config = {"b": [1, None], "a": {"é": True}}
    write_config(config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == config
    assert list(json.loads((tmp_path / "config.json").read_text())) == ["b", "a"]
