"""What a browser shows: a circuit's view as data, one HTML file of it, and the page's own files."""
