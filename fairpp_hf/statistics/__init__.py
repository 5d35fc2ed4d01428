"""Arrays in, numbers with intervals out: distances, agreement, skill and biases, by one cluster bootstrap."""
