"""Agents that come with the mesh."""
