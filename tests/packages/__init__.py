"""What is built from a checkout: a release, the wheel, the Debian package, the image."""
