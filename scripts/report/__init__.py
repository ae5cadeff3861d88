"""The report page: all tables, pictures, learning curves and runs so far, in one file."""
