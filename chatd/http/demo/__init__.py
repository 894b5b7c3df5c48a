"""The two calls of the page of MobileIMSDK's demo server, for those who have that page."""
