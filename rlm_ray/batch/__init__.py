"""Many documents: read, asked one by one, and asked all together."""
