"""Typed plans of agents."""
