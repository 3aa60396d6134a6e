"""RLlib algorithms for the portfolio environment, and the export of the policies that they train."""
