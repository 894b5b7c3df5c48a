"""Files over HTTP: uploading and downloading them at signed addresses."""
