"""`chatd-setup`: installs chatd on a host without the Debian package, and removes it.

The commands come from the virtual environment that pip made; this puts what belongs elsewhere in its place: account,
directories, unit, configuration, manual pages, completions, links to the commands.
"""
