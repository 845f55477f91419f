"""The pipeline's stages: a folder for each stage of dvc.yaml, and the rooms that they share."""
