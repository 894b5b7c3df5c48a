"""What the tests of the whole daemon stand on: a real chatd, honest clients, their journal, and its judge."""
