"""Every checkpoint of data/hostile/headers gives its expected error, within a bound of memory, and writes nothing."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from merging.checkpoint.headers import HEADER_LIMIT
from merging.checkpoint.shards import open_checkpoint
from merging.errors import MergingError

HOSTILE = Path(__file__).parents[2] / "data" / "hostile" / "headers"
FILES = json.loads((HOSTILE / "files.json").read_text())
FOLDERS = json.loads((HOSTILE / "folders.json").read_text())
# Beyond this, a bad file may cost so many bytes per byte that it really has: the JSON parser's objects.
SPARE_MEMORY = 4 << 20
MEMORY_PER_BYTE = 32


def parts(recipe: list[Any]) -> bytes:
    content = bytearray()
    for part in recipe:
        if isinstance(part, str):
            content += part.encode()
        elif "hex" in part:
            content += bytes.fromhex(part["hex"])
        else:
            text = part["repeat"]
            repeated = (
                (text.replace("%i", str(i)) for i in range(part["times"])) if "%i" in text else [text * part["times"]]
            )
            content += "".join(repeated).encode()
    return bytes(content)


def write_file(path: Path, case: dict[str, Any]) -> None:
    header = parts(case.get("header", []))
    content = len(header) if "length" not in case else case["length"]
    whole = content.to_bytes(8, "little") + header + bytes(case.get("data", 0))
    path.write_bytes(parts(case["bytes"]) if "bytes" in case else whole)
    if "file_size" in case:
        with path.open("r+b") as file:
            file.truncate(case["file_size"])


def write_folder(folder: Path, files: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if "text" in content:
            (folder / name).write_text(content["text"] + content.get("then", "") * content.get("times", 0))
        elif "map" in content:
            (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": content["map"]}))
        else:
            entry = {
                each: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
                for i, each in enumerate(content["tensors"])
            }
            write_file(folder / name, {"header": [json.dumps(entry)], "data": 4 * len(entry)})


def refusal(path: Path) -> tuple[str, int]:
    """The error's text, and the memory that was needed to find it."""
    tracemalloc.start()
    try:
        with pytest.raises(MergingError) as caught:
            open_checkpoint(path)
        return str(caught.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("case", FILES, ids=[case["name"] for case in FILES])
def test_a_bad_file_is_refused_with_its_reason(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_file(path, case)
    before = listing(tmp_path)
    text, memory = refusal(path)
    assert all(words in text for words in case["expect"]), text
    assert memory <= SPARE_MEMORY + MEMORY_PER_BYTE * min(path.stat().st_size, HEADER_LIMIT)
    assert len(text) < 20_000
    assert listing(tmp_path) == before


@pytest.mark.parametrize("case", FOLDERS, ids=[case["name"] for case in FOLDERS])
def test_a_bad_folder_is_refused_with_its_reason(case: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_folder(folder, case["files"])
    write_folder(tmp_path / "outside", case.get("outside", {}))
    for name, target in case.get("links", {}).items():
        (folder / name).symlink_to(target)
    before = listing(tmp_path)
    text, memory = refusal(folder)
    assert all(words in text for words in case["expect"]), text
    assert memory <= SPARE_MEMORY + MEMORY_PER_BYTE * sum(each.lstat().st_size for each in folder.iterdir())
    assert listing(tmp_path) == before
