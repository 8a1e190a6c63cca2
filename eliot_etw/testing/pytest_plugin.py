"""The pytest plugin: the `captured_logs` fixture, and the tree of what a failing test logged."""
