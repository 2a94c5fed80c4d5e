"""Ways through latent space."""
