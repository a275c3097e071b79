"""Run by a python that has peft and transformers, never by pytest: adapters made and combined by PEFT.

    python peft_driver.py WORK.json

WORK.json: {"families": {family: {base: folder, adapters: {name: {folder, settings of LoraConfig}}, combinations: {name:
{adapters, arguments of add_weighted_adapter}}}}, "tensors": file with coins "family/combination/module/place", "out":
file that receives "family/adapter/tensor" and "family/combination/tensor", the merged models, and
"family/combination/module/A" and "…/B", the combined factors}. The adapters are saved in their folders.
"""

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

Tensors = dict[str, Tensor]


def base_model(folder: str) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def make_adapter(base: str, folder: str, settings: dict[str, Any], seed: int) -> None:
    """An adapter as it may be after training, in which modules saved whole have changed too."""
    torch.manual_seed(seed)
    config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    model = get_peft_model(base_model(base), config)
    for name, x in model.named_parameters():
        if "modules_to_save" in name:
            x.data += 0.1 * torch.randn_like(x)
    model.save_pretrained(folder)


def merged(model: nn.Module) -> Tensors:
    """The model with its active adapter merged into it."""
    return {name: x.clone() for name, x in model.merge_and_unload(safe_merge=True).state_dict().items()}


def adapted_modules(model: nn.Module) -> dict[str, LoraLayer]:
    found = {name: each for name, each in model.base_model.model.named_modules() if isinstance(each, LoraLayer)}
    return {f"{name}.weight": each for name, each in found.items()}


def coins_in_order(model: nn.Module, coins: Tensors, adapters: int, parts: int) -> Iterator[Tensor]:
    """Module by module and, for factors, A before B; then adapter by adapter."""
    for name in adapted_modules(model):
        for part in range(parts):
            yield from (coins[f"{name}/{part * adapters + place}"] for place in range(adapters))


def combined(base: str, told: dict[str, Any], folders: dict[str, str], coins: Tensors) -> Tensors:
    first, *others = told["adapters"]
    model = PeftModel.from_pretrained(base_model(base), folders[first], adapter_name=first)
    for name in others:
        model.load_adapter(folders[name], adapter_name=name)
    arguments = told["arguments"]
    parts = 1 if arguments["combination_type"].endswith("svd") else 2
    given = coins_in_order(model, coins, len(told["adapters"]), parts)
    with mock.patch.object(torch, "bernoulli", lambda chances: next(given).to(chances)):
        model.add_weighted_adapter(told["adapters"], adapter_name="combined", **arguments)
    model.set_adapter("combined")
    factors = {}
    for name, module in adapted_modules(model).items():
        factors[f"{name}/A"] = module.lora_A["combined"].weight.detach().clone()
        factors[f"{name}/B"] = module.lora_B["combined"].weight.detach().clone()
    return factors | merged(model)


def main(work: dict[str, Any]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    coins, out = load_file(work["tensors"]), {}
    for family, told in work["families"].items():
        folders = {name: adapter["folder"] for name, adapter in told["adapters"].items()}
        made: dict[str, Tensors] = {}
        for seed, (name, adapter) in enumerate(told["adapters"].items()):
            make_adapter(told["base"], adapter["folder"], adapter["settings"], seed)
            made[name] = merged(PeftModel.from_pretrained(base_model(told["base"]), adapter["folder"]))
        for name, combination in told["combinations"].items():
            prefix = f"{family}/{name}/"
            given = {key.removeprefix(prefix): x for key, x in coins.items() if key.startswith(prefix)}
            made[name] = combined(told["base"], combination, folders, given)
        out |= {f"{family}/{name}/{key}": x.contiguous() for name, held in made.items() for key, x in held.items()}
    save_file({name: x.clone() for name, x in out.items()}, work["out"])


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
