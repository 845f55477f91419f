"""What is run by hand, on what the stages have written."""
