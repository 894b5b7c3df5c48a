"""The configuration: its schema, reading and checking a file, comparing two, printing one."""
