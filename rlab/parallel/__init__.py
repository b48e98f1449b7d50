"""Training on several processes and machines: data, tensor and pipeline parallelism, fleets of actors."""
