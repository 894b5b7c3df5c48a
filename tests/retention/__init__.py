"""Data that ends: retention, export and erasure, on real daemons."""
