"""Promises that hold for every state and every order of operations."""
