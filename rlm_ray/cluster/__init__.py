"""Ray: where sessions run. Plain classes, wrapped as actors where they are used."""
