"""A local web page on which every trained variant segments a dropped picture."""
