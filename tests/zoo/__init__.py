"""The bundled models and the recipes that made them."""
