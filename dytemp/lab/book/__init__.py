"""What chapters need to be chapters, and what turns them into pages."""
