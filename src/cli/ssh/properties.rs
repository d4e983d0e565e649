//! For any command line: what we understand of it is what ssh understands (`ssh -G`), and the words are passed on as they were given.
