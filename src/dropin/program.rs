//! The real ssh: the one on PATH that is not this program.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use tokio::process::Child;

use crate::openssh::Program;

/// What this process has been before: its id, and the programs of the name `ssh` that it was, which
/// were not the real one. A child that is ssh for this process has the id of this one with
/// [`CHILD`] before it.
const BEEN: &str = "SSHPOOL_SSH";
const CHILD: &str = "child-of-";

/// The ssh that goes on for this process.
pub(crate) struct RealSsh {
    program: Program,
    been: Vec<PathBuf>,
}

impl RealSsh {
    /// Finds the ssh on PATH that is not this program, nor a copy of it that this process was
    /// before.
    pub(crate) fn find() -> Result<Self, which::Error> {
        let been = been();
        let usual = Path::new("/usr/bin/ssh");
        let found = Program::find_but(|path| been.iter().any(|been| been == path));
        let program = found.or_else(|error| {
            if been.is_empty() { Program::at(usual).ok_or(error) } else { Err(error) }
        })?;
        Ok(RealSsh { program, been })
    }

    pub(crate) fn path(&self) -> &Path {
        self.program.path()
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// Becomes it. Returns only where that fails.
    pub(crate) fn exec(&self, arguments: &[OsString]) -> io::Error {
        self.program.become_it(arguments, &self.environment(""))
    }

    /// Starts it as a child that has our standard streams.
    pub(super) fn start(&self, arguments: &[OsString]) -> io::Result<Child> {
        self.program.start(arguments, &self.environment(CHILD))
    }

    /// What it has in its environment beyond ours.
    fn environment(&self, before: &str) -> [(&'static str, OsString); 1] {
        let mut been = vec![OsString::from(format!("{before}{}", std::process::id()))];
        been.extend(self.been.iter().map(|path| path.clone().into_os_string()));
        been.push(self.path().as_os_str().to_owned());
        [(BEEN, been.join(":".as_ref()))]
    }
}

/// The programs that this process was.
fn been() -> Vec<PathBuf> {
    let text = std::env::var_os(BEEN).unwrap_or_default();
    let mut parts = std::env::split_paths(&text);
    let own =
        [std::process::id().to_string(), format!("{CHILD}{}", std::os::unix::process::parent_id())];
    match parts.next() {
        Some(id) if own.iter().any(|own| id == Path::new(own)) => parts.collect(),
        _ => Vec::new(),
    }
}
