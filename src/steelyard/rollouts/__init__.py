"""Rollouts: how a version becomes what an alias points to, and how it goes back."""
