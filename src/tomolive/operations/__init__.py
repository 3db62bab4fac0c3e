"""Look after a beamline: are the settings right, and does everything run."""
