//! The supervisor daemon as a library.
