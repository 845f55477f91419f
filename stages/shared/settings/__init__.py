"""What the sections of params.yaml are made of, and how they are read."""
