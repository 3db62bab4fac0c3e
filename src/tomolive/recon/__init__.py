"""Pure reconstruction kernels: arrays in, arrays out."""
