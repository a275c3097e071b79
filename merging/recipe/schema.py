"""The shape of a recipe, as JSON Schema data: the one description that reading obeys and that editors are given.

Beside the standard keywords three of our own are read by `faults`: `must_be` (how an error says it), `refused` (a key
that is known, and why it cannot be used; only null is valid) and `synonyms` (wrong spellings and the right one).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from merging.recipe.recipe import DTYPE_NAMES

Shape: TypeAlias = Mapping[str, Any]

_BLOCK = "a block of `key: value` lines"

SCALAR: Shape = {"type": ["boolean", "number", "string"], "must_be": "a number, true, false or text"}


def setting(scalar: Shape) -> Shape:
    """Everything that may stand for a parameter whose single values have the shape `scalar`."""
    gradient: Shape = {
        "type": "array",
        "items": scalar,
        "minItems": 1,
        "description": "A gradient: values spread evenly over the layers, with straight lines between them.",
    }
    value: Shape = {"anyOf": [scalar, gradient], "must_be": "a value or a list of values, one per point of a gradient"}
    condition: Shape = {
        "type": "object",
        "properties": {
            "value": value,
            "filter": {
                "type": ["string", "null"],
                "must_be": "text that the names of the tensors contain",
                "description": 'The value holds for tensors whose name contains this; absent or "*": for all.',
            },
        },
        "required": ["value"],
        "additionalProperties": False,
        "must_be": "`value:`, with `filter:` or without",
    }
    conditions: Shape = {
        "type": "array",
        "items": condition,
        "minItems": 1,
        "description": "The first condition whose filter matches a tensor decides.",
    }
    return {
        "anyOf": [scalar, gradient, condition, conditions],
        "must_be": "a value, a list of values (a gradient over the layers), or a list of `value:` with `filter:`",
    }


def parameters(additional: Shape | bool, properties: Shape | None = None) -> Shape:
    """A `parameters:` block."""
    return {
        "type": ["object", "null"],
        "properties": properties or {},
        "additionalProperties": additional,
        "must_be": _BLOCK,
        "description": "Parameters of the method. A model's own beat those of its slice, which beat the recipe's.",
    }


PARAMETERS = parameters(setting(SCALAR))

_PATH: Shape = {
    "anyOf": [
        {"type": "string", "minLength": 1, "must_be": "text"},
        {
            "type": "object",
            "properties": {
                "path": {"type": "string", "minLength": 1, "must_be": "text"},
                "revision": {"type": ["string", "null"], "must_be": "text"},
            },
            "required": ["path"],
            "additionalProperties": False,
        },
    ],
    "must_be": "a path, or a block of `path:` and `revision:`",
}

_REFERENCE: Shape = {
    "anyOf": [
        {"type": "string", "minLength": 1, "must_be": "text"},
        {
            "type": "object",
            "properties": {
                "model": _PATH,
                "lora": {"anyOf": [{"type": "null"}, *_PATH["anyOf"]], "must_be": _PATH["must_be"]},
                "override_architecture": {
                    "type": "null",
                    "refused": "merging goes by names and shapes and needs no architecture: delete the line",
                },
            },
            "required": ["model"],
            "additionalProperties": False,
        },
    ],
    "must_be": "a folder, a .safetensors file, or `folder+adapter`",
    "description": "A checkpoint: a folder, a .safetensors file, or `folder+adapter` for a LoRA adapter on a base.",
}

_OPTIONAL_REFERENCE: Shape = {**_REFERENCE, "anyOf": [{"type": "null"}, *_REFERENCE["anyOf"]]}

_LAYER_RANGE: Shape = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "must_be": "a whole number of at least 0"},
    "minItems": 2,
    "maxItems": 2,
    "must_be": "[first layer, layer after the last], counted from 0",
    "description": "Layers first to last - 1 of the model, counted from 0.",
}

_DTYPE: Shape = {
    "type": ["string", "null"],
    "enum": [*DTYPE_NAMES, *(f"torch.{name}" for name in DTYPE_NAMES), None],
    "must_be": "one of " + ", ".join(DTYPE_NAMES),
    "synonyms": {
        **{"bf16": "bfloat16", "bfloat": "bfloat16", "fp16": "float16", "f16": "float16", "half": "float16"},
        **{"fp32": "float32", "f32": "float32", "float": "float32", "fp64": "float64", "double": "float64"},
    },
}


_MODEL: Shape = {
    "type": "object",
    "properties": {
        "model": _REFERENCE,
        "parameters": PARAMETERS,
        "companions": {
            "type": ["object", "null"],
            "properties": {},
            "additionalProperties": _REFERENCE,
            "must_be": "a block of `name: checkpoint` lines",
            "description": "Statistics of the model that the method asks for, such as `fisher: path`.",
        },
    },
    "required": ["model"],
    "additionalProperties": False,
    "must_be": "`model:`, with `parameters:` or without",
}

_SOURCE: Shape = {
    "type": "object",
    "properties": {
        "model": _REFERENCE,
        "layer_range": _LAYER_RANGE,
        "parameters": PARAMETERS,
        "residual_weight": {"type": "null", "refused": "it changes nothing in mergekit either: delete the line"},
    },
    "required": ["model", "layer_range"],
    "additionalProperties": False,
    "must_be": "`model:` and `layer_range:`",
}

_SLICE: Shape = {
    "type": "object",
    "properties": {
        "sources": {"type": "array", "items": _SOURCE, "minItems": 1, "must_be": "a list of `- model:` entries"},
        "base_model": _OPTIONAL_REFERENCE,
        "parameters": PARAMETERS,
    },
    "required": ["sources"],
    "additionalProperties": False,
    "must_be": "`sources:`, a list of `- model:` entries",
}

_TOKENIZER: Shape = {
    "type": ["object", "null"],
    "properties": {
        "source": {"type": "string", "minLength": 1, "must_be": "`base` or one of the recipe's models"},
        "tokens": {
            "type": ["null"],
            "refused": "rows of single tokens cannot be chosen yet: delete it to merge embeddings row by row",
        },
        "pad_to_multiple_of": {
            "type": ["null"],
            "refused": "vocabularies are not resized yet: delete it to keep the rows that the models have",
        },
    },
    "required": ["source"],
    "additionalProperties": False,
    "must_be": "a block with `source:`",
}

RECIPE: Shape = {
    "type": "object",
    "properties": {
        "models": {
            "type": ["array", "null"],
            "items": _MODEL,
            "minItems": 1,
            "must_be": "a list of `- model:` entries",
            "description": "Checkpoints to merge, over all their layers.",
        },
        "slices": {
            "type": ["array", "null"],
            "items": _SLICE,
            "minItems": 1,
            "must_be": "a list of `- sources:` entries",
            "description": "Stretches of output layers, bottom to top, each merged from layers of one or more models.",
        },
        "modules": {
            "type": "null",
            "refused": "recipes per module are not supported yet: write `models:`, which merges every tensor by name",
        },
        "merge_method": {
            "type": "string",
            "minLength": 1,
            "must_be": "the name of a merge method",
            "description": "How the inputs become one model; `merging methods` lists them.",
        },
        "base_model": {
            **_OPTIONAL_REFERENCE,
            "description": "The common ancestor that the models were fine-tuned from.",
        },
        "parameters": PARAMETERS,
        "dtype": {**_DTYPE, "description": "Dtype of the output. Arithmetic is in float32 whatever is written here."},
        "out_dtype": {**_DTYPE, "description": "Dtype of the output where it differs from `dtype`."},
        "tokenizer_source": {
            "type": ["string", "null"],
            "minLength": 1,
            "must_be": "`base` or one of the recipe's models",
            "description": "Whose tokenizer files are copied: `base` or one of the recipe's models.",
        },
        "tokenizer": _TOKENIZER,
        "chat_template": {
            "type": "null",
            "refused": "the template of the tokenizer's model is copied as it is: delete the line",
        },
        "missing_tensors": {
            "type": "string",
            "enum": ["refuse", "base"],
            "default": "refuse",
            "description": "Where an input lacks a tensor: refuse the merge, or let the base model's stand in.",
        },
        "extra_tensors": {
            "type": "string",
            "enum": ["refuse", "drop", "copy"],
            "default": "refuse",
            "description": "Tensors that only some inputs have: refuse the merge, leave them out, or copy them.",
        },
        "seed": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**63 - 1,
            "default": 0,
            "must_be": "a whole number of at least 0",
            "description": "Addresses the random numbers of methods that drop entries at random.",
        },
    },
    "required": ["merge_method"],
    "additionalProperties": False,
    "must_be": "a block of `key: value` lines such as `merge_method: linear`",
}
