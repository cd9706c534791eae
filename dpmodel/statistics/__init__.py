"""Statistics of data before training: environments, neighbors, output biases, and where they are kept."""
