"""The slices of one scan as they grow with its projections."""
