"""The bus of one host: Unix sockets between its workers. No other server is needed."""
