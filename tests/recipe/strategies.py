"""Random recipes, valid by construction."""

from __future__ import annotations

from hypothesis import strategies as st

from merging.recipe.recipe import ModelEntry, Parameters, Recipe, Setting, Slice, SliceSource

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
scalars = (
    st.booleans()
    | numbers
    | st.text(max_size=8)
    | st.sampled_from(["1e-3", "yes", "0o7", "~", "<<", "=", "2020-01-01"])
)
values = scalars | st.lists(scalars, min_size=1, max_size=4).map(tuple)
settings = st.builds(
    Setting, values, st.none() | st.text(max_size=8) | st.sampled_from(["mlp", "layers.1.", "on", "1"])
)
names = st.text(min_size=1, max_size=12).filter(lambda text: not text.startswith("model:"))
parameters: st.SearchStrategy[Parameters] = st.dictionaries(
    names, st.lists(settings, min_size=1, max_size=3).map(tuple), max_size=3
)
dtypes = st.none() | st.sampled_from(["BF16", "F16", "F32", "F64"])
models = st.lists(st.builds(ModelEntry, names, parameters), min_size=1, max_size=3).map(tuple)


@st.composite
def slices(draw: st.DrawFn) -> Slice:
    length = draw(st.integers(1, 5))
    firsts = draw(st.lists(st.integers(0, 9), min_size=1, max_size=3))
    sources = [SliceSource(draw(names), (first, first + length), draw(parameters)) for first in firsts]
    return Slice(tuple(sources), draw(parameters), draw(st.none() | names))


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    stacked = draw(st.booleans())
    base_model = draw(st.none() | names)
    entries = () if stacked else draw(models)
    tokenizers = [entry.source for entry in entries if entry.source not in ("union", "base")]
    return Recipe(
        draw(names),
        entries,
        draw(st.lists(slices(), min_size=1, max_size=3).map(tuple)) if stacked else (),
        base_model,
        draw(parameters),
        draw(dtypes),
        draw(dtypes),
        draw(st.sampled_from([None, *(["base"] if base_model else []), *tokenizers])),
        draw(st.sampled_from(["refuse", "base"])) if base_model else "refuse",
        draw(st.sampled_from(["refuse", "drop", "copy"])),
        draw(st.integers(0, 2**63 - 1)),
    )
