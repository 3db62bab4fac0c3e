"""Live reconstruction by several processes: each has a band of detector rows of one camera."""
