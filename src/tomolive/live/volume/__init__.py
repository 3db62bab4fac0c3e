"""The full volume of a scan that is over: read, prepared, made block by block, written as a result."""
