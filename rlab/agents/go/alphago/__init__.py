"""AlphaGo's parts (Silver et al. 2016), each a run of its own: so far the policy that learns from game records."""
