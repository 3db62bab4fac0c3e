"""What the documents of a run say: which frames there are, of what kind, at which angles."""
