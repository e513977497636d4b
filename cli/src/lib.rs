//! The debug CLI as a library.
