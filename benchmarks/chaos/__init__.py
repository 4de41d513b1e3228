"""Fault injection: workers, broker and endpoint fail at random under a steady load, and what was promised is checked."""
