"""Plots, pictures and HTML pages."""
