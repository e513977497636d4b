//! The macros of celeriac: task, canvas and tasks.
