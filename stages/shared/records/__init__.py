"""data/records/ and data/dataset.json: the resized pictures and masks."""
