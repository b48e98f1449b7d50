"""Tree search of many games in lockstep, a network's batch for every simulation."""
