"""Everything on one machine: the services as child processes, a scan, and a summary in plain words."""
