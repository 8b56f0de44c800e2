"""Steps as data, numbers from them, and their looks."""
