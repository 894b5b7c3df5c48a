"""Login tokens: JWTs that an application signs for its users."""
