"""What measures speed and memory, and their recorded results."""
