"""The recipes of tests/test_oracles.py, as both tools read them."""

from __future__ import annotations

# {0} is the base model, {1} … its fine-tunes.
RECIPES = {
    "linear": """
merge_method: linear
models:
  - {{model: {1}, parameters: {{weight: 1}}}}
  - {{model: {2}, parameters: {{weight: 0.5}}}}
  - {{model: {3}, parameters: {{weight: [0.1, 0.9]}}}}
""",
    "linear-not-normalised": """
merge_method: linear
models:
  - {{model: {1}, parameters: {{weight: 0.7}}}}
  - {{model: {2}, parameters: {{weight: 0.6}}}}
parameters: {{normalize: false}}
""",
    "slerp": """
merge_method: slerp
base_model: {0}
models: [{{model: {0}}}, {{model: {1}}}]
parameters: {{t: 0.3}}
""",
    "slerp-gradients-and-filters": """
merge_method: slerp
base_model: {1}
models: [{{model: {1}}}, {{model: {2}}}]
parameters:
  t:
    - {{filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}}
    - {{filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}}
    - {{filter: layernorm, value: "0.25"}}
    - value: 0.5
""",
    "task_arithmetic": """
merge_method: task_arithmetic
base_model: {0}
models:
  - {{model: {1}, parameters: {{weight: 0.8}}}}
  - {{model: {2}, parameters: {{weight: 0.4}}}}
parameters: {{normalize: true, lambda: 1.3}}
""",
    "task_arithmetic-negative": """
merge_method: task_arithmetic
base_model: {0}
models:
  - {{model: {1}, parameters: {{weight: 1.0}}}}
  - model: {2}
    parameters:
      weight: [{{filter: mlp, value: [-0.5, 0.2]}}, {{value: -0.3}}]
""",
    "ties": """
merge_method: ties
base_model: {0}
models:
  - {{model: {1}, parameters: {{weight: 1.0, density: 0.2}}}}
  - {{model: {2}, parameters: {{weight: 0.5, density: [0.5, 0.3]}}}}
  - {{model: {3}, parameters: {{weight: 0.8, density: 1.0}}}}
""",
    "ties-rescaled": """
merge_method: ties
base_model: {0}
models:
  - {{model: {1}, parameters: {{weight: 0.6}}}}
  - {{model: {2}, parameters: {{weight: -0.4}}}}
  - {{model: {3}, parameters: {{weight: 0.5}}}}
parameters: {{density: 0.37, normalize: false, rescale: true, lambda: 0.7, int8_mask: true}}
""",
    "breadcrumbs": """
merge_method: breadcrumbs
base_model: {0}
models:
  - {{model: {1}, parameters: {{weight: 0.5}}}}
  - {{model: {2}, parameters: {{weight: 0.4, density: 0.6}}}}
parameters: {{density: 0.9}}
""",
    "breadcrumbs_ties": """
merge_method: breadcrumbs_ties
base_model: {0}
models:
  - {{model: {1}, parameters: {{weight: 0.5, gamma: 0.02}}}}
  - {{model: {2}, parameters: {{weight: 0.4, gamma: 0.1}}}}
  - {{model: {3}, parameters: {{weight: 0.3}}}}
parameters: {{density: 0.7, gamma: 0.05, lambda: 1.2}}
""",
    "passthrough-slices": """
merge_method: passthrough
slices:
  - sources: [{{model: {1}, layer_range: [0, 2]}}]
  - sources:
      - model: {2}
        layer_range: [1, 3]
        parameters: {{scale: [{{filter: o_proj, value: 0.0}}, {{filter: down_proj, value: 0.5}}, {{value: 1.0}}]}}
""",
    "slerp-slices": """
merge_method: slerp
base_model: {0}
slices:
  - sources: [{{model: {0}, layer_range: [0, 2]}}, {{model: {1}, layer_range: [1, 3]}}]
  - sources: [{{model: {0}, layer_range: [2, 3]}}, {{model: {1}, layer_range: [0, 1]}}]
parameters: {{t: [0.2, 0.8]}}
""",
}
