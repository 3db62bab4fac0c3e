"""Keep everything, standard, in Tiled."""
