//! The subcommands, one file for each; `run`, `compose`, `resources` and `bench` have their own
//! places beside this one.

pub(super) mod agent;
pub(super) mod close;
pub(super) mod completions;
pub(super) mod cp;
pub(super) mod docker;
pub(super) mod doctor;
pub(super) mod exec;
pub(super) mod forward;
pub(super) mod man;
pub(super) mod metrics;
pub(super) mod ssh;
pub(super) mod status;
pub(super) mod warm;
