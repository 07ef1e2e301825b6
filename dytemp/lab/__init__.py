"""The laboratory: what runs the reproductions. It imports the library and is never imported by it."""
