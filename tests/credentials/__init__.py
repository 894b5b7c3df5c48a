"""Who may have an account, and how long its sessions last: attacks over sockets."""
