"""Logging that tells a program's story as a tree of actions: public names, no logic."""
