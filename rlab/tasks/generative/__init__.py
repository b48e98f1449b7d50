"""Tasks that learn to generate: autoencoders, VAEs, GANs, diffusion and flow matching, WaveNet."""
