"""A look into one model: what it predicts over timesteps and iterations, and what its images resemble."""
