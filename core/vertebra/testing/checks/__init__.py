"""One check a file: a function from a `Case` to what it finds, named as the promise that it tries."""
