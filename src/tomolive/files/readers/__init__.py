"""Readers of image files, one for each mimetype; they see frames by number and know nothing of documents."""
