"""`python -m merging`: the command line."""

from __future__ import annotations

from merging.cli import main

if __name__ == "__main__":
    main()
