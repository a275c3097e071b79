"""`merging schema`: what a recipe may say, for editors."""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of recipes.

    Editors complete and check recipes with it; in VS Code's YAML extension, for example, a recipe begins with
    `# yaml-language-server: $schema=recipe.schema.json`.

    \b
    Example:
      merging schema > recipe.schema.json
    """
    from merging.recipe.editors import recipe_schema

    click.echo(json.dumps(recipe_schema(), indent=2))
