"""Read the images that documents announce."""
