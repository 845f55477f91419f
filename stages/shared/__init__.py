"""What several stages use, a folder for each idea."""
