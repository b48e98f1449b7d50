"""Go on boards of 2 x 2 to 19 x 19: exact rules on arrays, environments, game records."""
