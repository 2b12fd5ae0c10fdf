"""Tuning: search the best plan of a model for a budget, and keep it beside the model."""
