//! The HTTP reverse proxy.

mod gate;
