//! Ansible, in an environment of its own under `target`, installed by whichever run needs it first.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::common::process::{outside, run};

/// For Python 3.11 to 3.13, here and on the server.
const VERSION: &str = "2.18.19";

/// Fetching it over a slow network takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

/// The directory of its programs. An error says why there is none.
pub fn programs() -> Result<PathBuf, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ansible-{VERSION}"));
    let lock = home.with_extension("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock)
        .expect("target is ours");
    let _lock =
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.to_string())?;
    let (programs, installed) = (home.join("bin"), home.join("installed"));
    if !installed.exists() {
        let _ = std::fs::remove_dir_all(&home);
        which::which("python3")
            .map_err(|_| "there is no python3 (apt-get install python3-venv)".to_owned())?;
        let made = run(outside("python3").args(["-m", "venv"]).arg(&home), PATIENCE);
        if made.code() != 0 {
            return Err(format!(
                "python3 makes no environment (apt-get install python3-venv): {}",
                made.last_words()
            ));
        }
        let package = format!("ansible-core=={VERSION}");
        let mut pip = outside(programs.join("pip"));
        let fetched = run(
            pip.args(["install", "--quiet", "--disable-pip-version-check", &package]),
            PATIENCE,
        );
        if fetched.code() != 0 {
            return Err(format!("pip does not install {package}: {}", fetched.last_words()));
        }
        std::fs::write(installed, "").expect("target is ours");
    }
    Ok(programs)
}
