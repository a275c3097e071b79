"""Run by a python that has mergekit, never by pytest: all merges of tests/test_oracles.py in one process.

    python mergekit_driver.py WORK.json

WORK.json: {"merges": [[recipe file, output folder], …], "cases": [{method, parameters, tensors, base}, …],
"tensors": file with tensors "case/model", "out": file that receives one merged tensor per case}.
"""

import json
import sys
from pathlib import Path

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.merge_methods.api import merge_tensors
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

work = json.loads(Path(sys.argv[1]).read_text())
torch.set_num_threads(1)
for recipe, out in work["merges"]:
    config = MergeConfiguration.model_validate(yaml.safe_load(Path(recipe).read_text()))
    run_merge(config, out, options=MergeOptions(quiet=True, write_model_card=False))
held = load_file(work["tensors"])
merged = {}
for number, case in enumerate(work["cases"]):
    merged[str(number)] = merge_tensors(
        [held[f"{number}/{model}"] for model in range(case["models"])],
        case["method"],
        parameters=case["parameters"],
        base_index=case["base"],
    ).contiguous()
save_file(merged, work["out"])
