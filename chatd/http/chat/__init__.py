"""What the chat page asks over HTTP: logging in, staying logged in, registering."""
