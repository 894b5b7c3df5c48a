"""The upgrade of a running server to the installed code, in the same process.

state: what one program hands to the next. preflight: whether the installed code would serve. execute: changing the
program. upgrade: the phases and the answer. resume: the new program takes over. program: how to start it again, and
which version is installed. docs/internals/upgrade.md tells the story.
"""
