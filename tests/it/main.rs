//! The integration tests: one binary, so that the crate and what the tests share are compiled and
//! linked once. A module is a topic: `cargo test --test it -- MODULE::` runs it.
//!
//! All tests are threads of one process. One that changes what belongs to the process, as its
//! limits and its logging do, starts this binary once more for itself alone (`lab::itself`).

mod lab;
mod lanes;
mod lanes_broken;
mod lanes_fast;
mod lanes_limits;

mod accounts;
mod agent;
mod agent_api;
mod agent_commands;
mod agent_docs;
mod agent_security;
mod architecture;
mod at_most_once;
mod bench;
mod cli;
mod cli_docs;
mod clients;
mod commands;
mod completions;
mod compose;
mod compose_called;
mod config_example;
mod connect_errors;
mod docker_docs;
mod docker_socket;
mod doctor;
mod dropbear;
mod ending;
mod faults;
mod faults_here;
mod faults_program;
mod files;
mod files_docs;
mod first_session;
mod fixture;
mod fleet;
mod forced;
mod forward_clients;
mod forward_docs;
mod forwards;
mod hostile;
mod jump_hosts;
mod killed_or_lost;
mod left_behind;
mod lifecycle;
mod logins;
mod names_and_bytes;
mod odd_accounts;
mod one_session;
mod outcomes;
mod places;
mod privacy;
mod proxy;
mod public_api;
mod readme;
mod refusals;
mod reliability;
mod resources;
mod results;
mod run;
mod runners;
mod shells;
mod ssh;
mod start_up;
mod sudo;
mod sudo_docs;
mod support;
mod surprises;
mod terminal;
mod texts;
mod user_options;
