"""The I/O floor: read files to nowhere, copy one file's worth of bytes; nothing a merge does can be cheaper.

python -m benchmarks.floor OUT FILE… --write BYTES [--fsync]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

BLOCK_BYTES = 1 << 20


def read_and_copy(sources: list[Path], out: Path, write_bytes: int, *, fsync: bool) -> None:
    """Read every source in blocks of 1 MiB; write the first `write_bytes` of what was read to `out`."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    target = os.open(out, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    remaining = write_bytes
    for source in sources:
        file = os.open(source, os.O_RDONLY)
        position = 0
        while count := os.preadv(file, [buffer], position):
            position += count
            if remaining:
                remaining -= os.write(target, buffer[: min(count, remaining)])
        os.close(file)
    if fsync:
        os.fsync(target)
    os.close(target)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--write", type=int, required=True)
    parser.add_argument("--fsync", action="store_true")
    options = parser.parse_args()
    read_and_copy(options.sources, options.out, options.write, fsync=options.fsync)


if __name__ == "__main__":
    main()
