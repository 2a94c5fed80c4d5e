"""Sources of examples, their ranges, the cache and the loader."""
