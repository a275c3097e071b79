"""A merge from the Hub into the Hub: bytes on the local disk at their peak, memory, time; and the bytes are the same.

    python -m benchmarks.remote --size 0.1B --shard-mb 50

A base model and three fine-tunes lie on a loopback Hub (tests/hub), with Xet and without. `merging run` merges them by
TIES into a repository there, by whole shards and by ranges; each output is compared with that of a local merge of the
same commits. A thread walks the program's folders all the time and keeps the largest sum of allocated bytes it saw.

Where the disk is promised to stay small the figures are judged: below two shards for each source and for the target by
shards, below 64 MB by ranges when the output is streamed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import file_digest, sha256
from pathlib import Path

from benchmarks.measure import ROOT, circumstances, measure
from benchmarks.streaming import save
from tests.hub.server import HubServer

TARGET = "tester/merged"
RANGE_DISK_BYTES = 64_000_000
LOOK_SECONDS = 0.01
MODELS = 3


@dataclass(frozen=True)
class Outcome:
    """One merge. Disk bytes are peaks, of all folders together and of each by itself."""

    fetch: str
    xet: bool
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    disk_bytes: int
    disk_by_folder: Mapping[str, int]
    model_bytes: int
    shard_bytes: int
    same_bytes: bool
    within: bool | None


class Disk:
    """The most bytes that folders have held at once."""

    def __init__(self, folders: Mapping[str, Path]):
        self._folders = folders
        self.most = 0
        self.most_by_folder = dict.fromkeys(folders, 0)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at them all the time, from a thread."""
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(LOOK_SECONDS):
            held = {name: _allocated(folder) for name, folder in self._folders.items()}
            self.most = max(self.most, sum(held.values()))
            self.most_by_folder = {name: max(most, held[name]) for name, most in self.most_by_folder.items()}


def _allocated(folder: Path) -> int:
    """Bytes on the disk of everything below a folder; each file once, however many names it has."""
    seen: dict[int, int] = {}
    for inner, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                status = (Path(inner) / name).lstat()
                seen[status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def _made(folder: Path, size: str, shard_bytes: int) -> list[Path]:
    """The models, by a program of its own: what this one imports counts in what it measures."""
    code = (
        "import sys; from pathlib import Path; from benchmarks import generate as g; g.SHARD_BYTES = int(sys.argv[3]); "
        f"print(*g.generate(Path(sys.argv[1]), sys.argv[2], {MODELS}), sep='\\n')"
    )
    line = [sys.executable, "-c", code, str(folder), size, str(shard_bytes)]
    told = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(text) for text in told.splitlines()]


def _recipe(folder: Path, places: list[Path]) -> Path:
    listed = "".join(f"- model: tester/{place.name}\n  parameters: {{weight: 0.5}}\n" for place in places[1:])
    path = folder / "recipe.yaml"
    path.write_text(f"merge_method: ties\nbase_model: tester/base\nparameters: {{density: 0.3}}\nmodels:\n{listed}")
    return path


def merged(folder: Path, places: list[Path], fetches: list[str], shard_bytes: int, *, xet: bool) -> Iterator[Outcome]:
    """All ways of fetching, with one Hub."""
    with HubServer(folder / "server", xet=xet) as hub:
        for place in places:
            hub.add(
                f"tester/{place.name}", {file.name: file for file in place.iterdir() if file.name != "settings.json"}
            )
        line = [sys.executable, "-m", "merging", "run", str(_recipe(folder, places))]
        local = folder / f"local-{xet}"
        measure(
            [*line, str(local), "--shard-size", str(shard_bytes), "-q"],
            folder / "log.txt",
            {**hub.environment(), "HF_HUB_OFFLINE": "0"},
        )
        expected = {file.name: _sha256(file) for file in local.glob("*.safetensors")}
        for fetch in fetches:
            target = f"{TARGET}-{fetch}"
            yield _measured(hub, folder, [*line], target, fetch, shard_bytes, expected, places)


def _measured(
    hub: HubServer,
    folder: Path,
    line: list[str],
    target: str,
    fetch: str,
    shard_bytes: int,
    expected: Mapping[str, str],
    places: list[Path],
) -> Outcome:
    home = folder / f"{fetch}-{hub.xet}"
    variables = hub.environment()
    folders = {"cache": Path(variables["HF_HOME"]), "out": home / "out", "temporary": home / "temporary"}
    for place in folders.values():
        place.mkdir(parents=True, exist_ok=True)
    variables |= {"HF_HUB_OFFLINE": "0", "TMPDIR": str(folders["temporary"])}
    line = [*line, str(folders["out"]), "--shard-size", str(shard_bytes), "--fetch", fetch, "--push", target, "-q"]
    disk = Disk(folders)
    with disk.watched():
        cost = measure(line, home / "log.txt", variables)
    there = {name: sha256(text).hexdigest() for name, text in hub.contents(target).items()}
    same = {name: digest for name, digest in there.items() if name.endswith(".safetensors")} == dict(expected)
    limit = 2 * shard_bytes * (len(places) + 1) if fetch == "shards" else RANGE_DISK_BYTES if hub.xet else None
    return Outcome(
        fetch=fetch,
        xet=hub.xet,
        wall_seconds=round(cost.wall_seconds, 1),
        cpu_seconds=round(cost.cpu_seconds, 1),
        peak_memory_bytes=cost.peak_bytes,
        disk_bytes=disk.most,
        disk_by_folder=disk.most_by_folder,
        model_bytes=sum(file.stat().st_size for file in places[0].glob("*.safetensors")),
        shard_bytes=shard_bytes,
        same_bytes=same,
        within=None if limit is None else disk.most < limit,
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="0.1B", help="of each model, see benchmarks/generate.py")
    parser.add_argument("--shard-mb", type=int, default=50, help="size of a shard, of sources and target")
    parser.add_argument("--fetch", nargs="+", default=["shards", "ranges"], choices=["shards", "ranges", "snapshot"])
    parser.add_argument("--only", choices=["xet", "lfs"], help="one kind of Hub alone")
    parser.add_argument("--keep", action="store_true", help="write a result file")
    options = parser.parse_args()
    shard_bytes = options.shard_mb * 1_000_000
    rows = []
    with tempfile.TemporaryDirectory(prefix="merging-remote-") as name:
        places = _made(Path(name) / "models", options.size, shard_bytes)
        for xet in (True, False):
            if options.only in (None, "xet" if xet else "lfs"):
                for row in merged(Path(name), places, options.fetch, shard_bytes, xet=xet):
                    rows.append(asdict(row))
                    print(json.dumps(asdict(row)), flush=True)
    if options.keep:
        save({"benchmark": "remote", **circumstances(), "rows": rows}, "remote")
    if not all(row["same_bytes"] and row["within"] is not False for row in rows):
        sys.exit("the bytes are not those of a local merge, or the disk held more than is promised")


if __name__ == "__main__":
    main()
