"""Analytic policy gradients: learning by differentiating the accounting."""
