"""Tests: they mirror the package; a test's name is the law it proves."""
