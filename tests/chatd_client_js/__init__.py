"""The JavaScript client: in Node.js and in a real browser, against the real server."""
