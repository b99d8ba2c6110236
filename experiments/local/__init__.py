"""Local mechanisms of compositional generalisation: experiments 1, 2 and 3."""
