"""The backbone, the heads on it, and what they run on."""
