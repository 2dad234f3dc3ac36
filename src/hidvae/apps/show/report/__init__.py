"""Pages to look at: figures from tables, and one self-contained HTML file."""
