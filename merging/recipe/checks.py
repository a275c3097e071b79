"""What can be said about a recipe's parameters before any model is opened: every problem, every line without effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from merging.errors import MergingError, ParameterError, RecipeError, SilentMergeError, nearest
from merging.methods.declare import Method, all_methods
from merging.methods.parameters import REQUIRED
from merging.recipe.recipe import KeyPath, Parameters, Recipe, Setting
from merging.recipe.settings import missing_value, scope, where_setting

# Methods that an error names as owners of a parameter.
MOST_NAMED = 5


def check_parameters(recipe: Recipe, method: Method, *, lenient: bool = False) -> list[MergingError]:
    """Everything that `method` refuses in the recipe's parameters: unknown, misplaced, out of bounds, missing.

    `lenient` passes over unknown parameters, which `parameter_warnings` then lists.
    """
    problems: list[MergingError] = [*_base_problems(recipe, method), *_companion_problems(recipe, method)]
    for path, block, of_one_model in recipe.blocks():
        for name in block:
            known = name in method.parameters
            if not known and not lenient:
                problems.append(_unknown(recipe, method, (*path, name)))
            elif known and of_one_model and not method.parameters[name].kind.per_model:
                problems.append(_misplaced(recipe, method, (*path, name)))
            elif known:
                problems += _value_problems(recipe, method, (*path, name), block)
    return [*problems, *_missing(recipe, method)]


def parameter_warnings(recipe: Recipe, method: Method, *, lenient: bool = False) -> list[str]:
    """Lines that change nothing: parameters of a base model that the method subtracts; when lenient, unknown ones."""
    warnings = []
    for path, block, of_one_model in recipe.blocks():
        if of_one_model and block and not _base_takes_part(method) and _is_base(recipe, path):
            names = ", ".join(block)
            warnings.append(
                f"{recipe.where(*path)}: {names} of the base model has no effect, because {method.name} merges what "
                "the other models add to it"
            )
        unknown = [name for name in block if lenient and name not in method.parameters]
        warnings += [f"{recipe.where(*path, name)}: {method.name} has no parameter {name!r}" for name in unknown]
    return warnings


def unmatched_filters(recipe: Recipe, tensors: Iterable[str]) -> list[SilentMergeError]:
    """Every filtered setting that decides nothing: its filter is in no output tensor's name, or an earlier one wins."""
    names = list(tensors)
    return [
        _unmatched(recipe, (*path, parameter), i, wanted, shadowed=any(wanted in name for name in names))
        for path, block, _ in recipe.blocks()
        for parameter, settings in block.items()
        for i, wanted in _idle_filters(settings, names)
    ]


def _idle_filters(settings: Sequence[Setting], names: Sequence[str]) -> Iterator[tuple[int, str]]:
    earlier: list[str] = []
    for i, setting in enumerate(settings):
        wanted = setting.filter
        if wanted is not None and not any(_first_in(wanted, earlier, name) for name in names):
            yield i, wanted
        earlier.append(wanted or "")


def _first_in(wanted: str, earlier: list[str], name: str) -> bool:
    return wanted in name and not any(other in name for other in earlier)


def _unmatched(recipe: Recipe, path: KeyPath, i: int, wanted: str, shadowed: bool) -> SilentMergeError:
    where = where_setting(recipe, path, i, "filter")
    if shadowed:
        return SilentMergeError(
            f"filter {wanted!r} decides nothing: earlier conditions match all its tensors",
            where=where,
            fix="move it before them; the first match wins",
        )
    return SilentMergeError(
        f"filter {wanted!r} matches no tensor",
        where=where,
        must_be="text that the name of at least one output tensor contains",
        fix="`merging inspect` lists the names; or delete the condition",
    )


def _base_takes_part(method: Method) -> bool:
    """Whether a base model is one of the operands, with parameter values like any other."""
    return method.needs.base == "unused" or (method.needs.sees == "models" and method.needs.base == "required")


def _is_base(recipe: Recipe, path: KeyPath) -> bool:
    """Whether the entry or the block at `path` is the base model's."""
    match path:
        case ("models", int(i), *_):
            return recipe.models[i].source == recipe.base_model
        case ("slices", int(i), "sources", int(k), *_):
            piece = recipe.slices[i]
            return piece.sources[k].source == (piece.base_model or recipe.base_model)
    return False


def _base_problems(recipe: Recipe, method: Method) -> Iterator[MergingError]:
    listed = {entry.source for entry in recipe.models}
    if recipe.models and recipe.base_model and recipe.base_model not in listed and method.needs.base == "unused":
        yield RecipeError(
            f"{method.name} has no base model: {recipe.base_model} would be merged in as one more model",
            where=recipe.where("base_model"),
            fix="list it under `models:` if that is meant, else delete the line",
        )


def _companion_problems(recipe: Recipe, method: Method) -> Iterator[MergingError]:
    wanted = set(method.needs.companions)
    listed = ", ".join(method.needs.companions)
    if wanted and recipe.slices:
        yield RecipeError(
            f"{method.name} needs {listed} of every model, which slices cannot name",
            where=recipe.where("slices"),
            fix="list the models under `models:`, each with `companions:`",
        )
    for i, entry in enumerate(recipe.models):
        if entry.source == recipe.base_model and not _base_takes_part(method):
            continue
        for name in sorted(wanted - set(entry.companions)):
            yield RecipeError(
                f"{method.name} needs {name} of {entry.source}",
                where=recipe.where("models", i),
                must_be=f"`companions: {{{name}: checkpoint}}`",
                fix=f"name the checkpoint that holds this model's {name}",
            )
        for name in sorted(set(entry.companions) - wanted):
            yield RecipeError(
                f"{method.name} has no companion {name!r}",
                where=recipe.where("models", i, "companions", name),
                must_be=listed or "no companions",
                fix="delete the line",
            )


def _unknown(recipe: Recipe, method: Method, path: KeyPath) -> ParameterError:
    name = str(path[-1])
    close = nearest(name, method.parameters, count=1)
    others = [other.name for other in all_methods().values() if name in other.parameters]
    fix = f"did you mean {close[0]!r}?" if close else "delete the line"
    if others and not close:
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        fix += f"; {name!r} belongs to {', '.join(others[:MOST_NAMED])}{more}"
    must_be = "one of " + ", ".join(method.parameters) if method.parameters else "no parameters"
    return ParameterError(
        f"{method.name} has no parameter {name!r}", where=recipe.where(*path), must_be=must_be, fix=fix
    )


def _misplaced(recipe: Recipe, method: Method, path: KeyPath) -> ParameterError:
    block = "the slice's or the recipe's `parameters:`" if path[0] == "slices" else "the recipe's `parameters:`"
    return ParameterError(
        f"{path[-1]!r} of {method.name} cannot differ from model to model",
        where=recipe.where(*path),
        must_be=f"in {block}",
        fix="move the line there",
    )


def _value_problems(recipe: Recipe, method: Method, path: KeyPath, block: Parameters) -> Iterator[MergingError]:
    parameter = method.parameters[str(path[-1])]
    for i, setting in enumerate(block[parameter.name]):
        values = setting.value if isinstance(setting.value, tuple) else (setting.value,)
        for j, value in enumerate(values):
            try:
                parameter.check(value, where_setting(recipe, path, i, "value", j))
            except ParameterError as problem:
                yield problem


def _missing(recipe: Recipe, method: Method) -> Iterator[MergingError]:
    """Parameters without a default that no block sets for some operand, whatever the tensor."""
    required = [parameter for parameter in method.parameters.values() if parameter.default is REQUIRED]
    for slice_index in range(len(recipe.slices)) if recipe.slices else [None]:
        entries, shared = scope(recipe, slice_index)
        for parameter in required:
            if any(parameter.name in block for _, block in shared):
                continue
            if not parameter.kind.per_model:
                yield missing_value(recipe, method, parameter, None, shared[0][0])
                continue
            yield from (
                missing_value(recipe, method, parameter, entry.source, (*path, "parameters"))
                for path, entry in entries
                if parameter.name not in entry.parameters and (_base_takes_part(method) or not _is_base(recipe, path))
            )
