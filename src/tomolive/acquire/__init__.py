"""Make a scan: a simulated beamline, its plans, and replay of existing files."""
