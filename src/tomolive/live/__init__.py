"""Documents to pictures, while the scan runs."""
