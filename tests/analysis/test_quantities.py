"""The list of quantities, the table and the documentation name the same ones."""

from __future__ import annotations

from merging.analysis.diagnose import diagnose
from merging.analysis.quantities import QUANTITIES
from merging.checkpoint.tensors import MemoryCheckpoint
from tests.syntax import ROOT
from tests.tiny_shapes import normal


def test_every_quantity_is_documented_with_its_unit_and_appears_in_a_table() -> None:
    models = [MemoryCheckpoint({"w": normal((50,), name, 0)}, location=name) for name in ("base", "a", "b")]
    rows = diagnose(models[1:], models[0], cache=False).table()
    assert {row.quantity for row in rows} == set(QUANTITIES)
    lines = (ROOT / "docs" / "diagnose.md").read_text().splitlines()
    for name, quantity in QUANTITIES.items():
        (line,) = [line for line in lines if line.startswith(f"| `{name}` |")]
        assert quantity.unit in line.replace("\\|", "|"), name
        assert quantity.says in line.replace("\\|", "|"), name


def test_a_quantity_is_said_of_what_the_list_tells() -> None:
    models = [MemoryCheckpoint({"w": normal((50,), name, 0)}, location=name) for name in ("base", "a", "b")]
    rows = diagnose(models[1:], models[0], cache=False).table()
    models_named = {"base": 0, "all": 0, "model": 1, "pair": 2}
    for name, quantity in QUANTITIES.items():
        named = {(row.i is not None) + (row.j is not None) for row in rows.where(quantity=name)}
        assert models_named[quantity.of] in named, name
