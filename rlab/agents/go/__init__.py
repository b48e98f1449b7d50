"""Agents that play Go: networks, AlphaZero, AlphaGo's parts, and the players that they are in matches."""
