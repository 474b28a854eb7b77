"""Recipes: the verbs composed, each stage with the options that a user would type."""

from segkit.run.recipe import Recipe, RecipeStage, fill, find_recipe, load_recipe, recipe_values, shipped_recipes
from segkit.run.record import Record, fingerprint

__all__ = [
    "Recipe",
    "RecipeStage",
    "Record",
    "fill",
    "find_recipe",
    "fingerprint",
    "load_recipe",
    "recipe_values",
    "shipped_recipes",
]
