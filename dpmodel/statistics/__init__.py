"""What is counted from data before training: environments, neighbors, output biases, and where they are kept."""
