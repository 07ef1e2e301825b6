"""The laboratory: what runs the reproductions. It imports the library, never the reverse."""
