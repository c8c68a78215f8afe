"""inspection - looks at mail and reports what it finds."""
