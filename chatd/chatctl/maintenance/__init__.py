"""`chatctl backup`, `restore`, `verify` and `vacuum`: taking care of a whole store."""
