"""Statistics of results: where their uncertainty comes from and how it adds up."""
