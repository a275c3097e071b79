"""What was measured, line by line in a file: a run that was ended goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Records:
    """Values by key, both JSON data; every new one is appended to the file at once."""

    def __init__(self, file: Path):
        self.file = file
        self._found: dict[str, dict[str, Any]] = {}
        file.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text() if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            # The run ended while it wrote this line.
            file.write_text(whole)
        for line in whole.splitlines():
            record = json.loads(line)
            self._found[_spelled(record["key"])] = record["value"]

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The value of a key."""
        return self._found.get(_spelled(key))

    def add(self, key: Mapping[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        """Keep a value; returns it as it is read back."""
        line = json.dumps({"key": key, "value": value})
        with self.file.open("a") as file:
            file.write(line + "\n")
        value = json.loads(line)["value"]
        self._found[_spelled(key)] = value
        return value


def _spelled(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
