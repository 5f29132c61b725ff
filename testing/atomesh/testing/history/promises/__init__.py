"""One validator per promise: what a history says against it."""
