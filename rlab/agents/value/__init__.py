"""Value-based deep agents: DQN and its variants, PQN, and what they share."""
