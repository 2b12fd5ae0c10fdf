"""Recipes, and comparisons of the runs that they made."""
