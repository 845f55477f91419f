"""Metrics, and predictions as pictures and tables."""
