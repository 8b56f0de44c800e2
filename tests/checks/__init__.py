"""Tests of the checks that users run."""
