"""The user's own analyses, each in a process of its own."""
