"""Learning agglomerators: what they learn from, and the file of what they learned."""
