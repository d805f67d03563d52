"""Remotes against real servers on loopback, and against a network that fails."""
