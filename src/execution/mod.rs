//! The way of one command: a lease, a session on it, its streams, its end; once more where it
//! provably never started.

pub(crate) mod attempts;
pub(crate) mod running;
