//! Packages of Python, each in an environment of its own under `target`, installed by whichever run
//! needs it first.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::common::process::{outside, run};

/// Fetching one over a slow network takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

/// The directory of the programs of this package. An error says why there is none.
pub fn programs(name: &str, package: &str, version: &str) -> Result<PathBuf, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{version}"));
    let mut lock = home.clone().into_os_string();
    lock.push(".lock");
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
        let package = format!("{package}=={version}");
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
