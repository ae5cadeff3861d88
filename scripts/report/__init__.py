"""The report page: what is there of tables, pictures, learning curves and runs, in one file."""
