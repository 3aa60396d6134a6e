"""Strategies and saved policies: what decides on portfolio weights, without training anything."""
