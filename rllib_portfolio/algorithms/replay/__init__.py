"""Replay buffers of transitions."""
