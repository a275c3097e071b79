"""A finished merge as data: a record with Hub parents, a ledger, and pieces that hostile people would write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COMMITS = {"ada/base": "a" * 40, "ada/math": "b" * 40, "bob/code": "c" * 40, "eve/style": "d" * 40}
HOSTILE = (
    "a`</code><script>alert(1)</script>",
    "x|<img src=y onerror=z>|",
    "back\\slash\\|<b>",
    "two\n\n---\nlicense: mit\n---\n# heading",
    "[link](https://evil.example) ![i](https://evil.example/i.png)",
    "<!-- merging:card end -->",
    "```\n<script>",
    "https://evil.example www.evil.example",
    "\u202egnp.exe\x00\ud800",
    "- a: &x [*x]",
)


def record(
    models: Sequence[str] = ("ada/math", "bob/code@main"), base: str | None = "ada/base", **more: Any
) -> dict[str, Any]:
    """What merging.json holds of a TIES merge of the models; Hub ids of COMMITS are pinned."""
    named = [*models, *([base] if base else [])]
    recipe: dict[str, Any] = {
        "models": [{"model": name, "parameters": {"weight": 0.5}} for name in models],
        "merge_method": "ties" if base else "linear",
    }
    if base:
        recipe |= {"base_model": base, "parameters": {"density": 0.4}}
    told = {
        "merging": "0.1.0",
        "plan": "0" * 64,
        "recipe": recipe,
        "models": [model(name, i) for i, name in enumerate(named)],
        "seed": 0,
        "recipe_folder": "../../mnt/ada/recipes",
        "shard_bytes": 5_000_000_000,
        "parents": [parent(part) for part in dict.fromkeys(_parts(named)) if part.split("@")[0] in COMMITS],
        "files": ["model.safetensors"],
    }
    return {**told, **more}


def model(name: str, position: int) -> dict[str, Any]:
    """An entry of `models`."""
    repository = name.split("@")[0]
    pinned = {"repository": repository, "commit": COMMITS[repository]} if repository in COMMITS else {}
    return {"source": name, "fingerprint": f"{position:x}" * 64, **pinned}


def parent(name: str, **more: Any) -> dict[str, Any]:
    """An entry of `parents`."""
    repository, _, revision = name.partition("@")
    told = {
        "repository": repository,
        "commit": COMMITS[repository],
        "revision": revision or "main",
        "license": "apache-2.0",
        "gated": False,
        "private": False,
        "integrity": "sha256 of whole files",
    }
    return {**told, **more}


def _parts(names: Sequence[str]) -> list[str]:
    return [part for name in names for part in name.split("+")]


def row(tensor: str, shares: Sequence[float], *, base: bool = True, norm: float = 1.0, **more: Any) -> dict[str, Any]:
    """A ledger line of a tensor merged by a method that is not linear, of as many models as there are shares."""
    told = {
        "tensor": tensor,
        "shape": [4, 8],
        "dtype": "BF16",
        "rule": "merge",
        "method": "ties" if base else "linear",
        "parameters": {"weight": [0.5] * len(shares), "density": [0.4] * len(shares), "lambda": 1.0},
        "layer": None,
        "role": "",
        "note": "",
        "counted": True,
        "base": [len(shares), tensor] if base else None,
        "operands": [
            {"model": i, "tensor": tensor, "same": False, "norm": 1.0, "share": share} for i, share in enumerate(shares)
        ],
        "merged_norm": norm,
        "non_finite": 0,
        "digest": "0" * 32,
        "span": 1 << 24,
        "seconds": 0.0,
    }
    return {**told, **more}


def linear_row(tensor: str, coefficients: Sequence[float], norms: Sequence[float], **more: Any) -> dict[str, Any]:
    """A ledger line of a tensor merged by a linear method."""
    made = row(tensor, coefficients, **more)
    for operand, coefficient, norm in zip(made["operands"], coefficients, norms, strict=True):
        operand |= {"coefficient": coefficient, "norm": norm, "share": abs(coefficient) * norm}
    return made


def copied_row(tensor: str, model: int, **more: Any) -> dict[str, Any]:
    """A ledger line of a tensor that was copied."""
    operands = [{"model": model, "tensor": tensor, "same": True}]
    changed = {"rule": "copy", "method": "", "parameters": {}, "operands": operands, "base": None, "merged_norm": None}
    return {**row(tensor, []), **changed, "note": "one model, unchanged", **more}


def ledger(layers: int = 2, models: int = 2) -> list[dict[str, Any]]:
    """Embeddings that nobody changed, layers with other shares each, a norm that was copied."""
    rows = [row("model.embed_tokens.weight", [0.0] * models, norm=0.0)]
    for i in range(layers):
        shares = [float(1 + (i + k) % 3) for k in range(models)]
        rows.append(row(f"model.layers.{i}.mlp.up_proj.weight", shares, norm=1.0 + i, layer=i, role="mlp.up"))
    return [*rows, copied_row("model.norm.weight", models)]


def config() -> Mapping[str, Any]:
    """A config that transformers reads."""
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2}
