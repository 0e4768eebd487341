"""Starts the built programs and real peers, and watches what they say."""
