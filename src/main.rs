//! The `sshpool` program. Everything is in the library's hidden `cli` module.

use std::process::ExitCode;

fn main() -> ExitCode {
    sshpool::cli::main()
}
