//! What the user has set, and what comes of it: hosts, and who runs commands on them.

use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::args::Target;
use super::failure::Failure;
use super::output::{complain, stdio};
use crate::agent::Client;
use crate::agent::client::NoAgent;
use crate::cli::backend::Backend;
use crate::config::{self, Config, PoolConfig};
use crate::error::Error;
use crate::host::Host;
use crate::host::set::{HostSet, HostSetError};
use crate::pool::Pool;
use crate::pool::signals;
use crate::text::plain;

/// What the user has set.
pub(super) struct Setup {
    pub(super) ssh_config: Option<PathBuf>,
    /// The TOML file that was named.
    named: Option<PathBuf>,
    /// Where the TOML file is, or would be.
    pub(super) file: Option<PathBuf>,
    pub(super) config: Config,
    pub(super) agent: bool,
}

impl Setup {
    pub(super) fn new(
        ssh_config: Option<PathBuf>,
        named: Option<PathBuf>,
        no_agent: bool,
    ) -> Result<Self, Failure> {
        let (file, config) = load(named.clone())?;
        let agent = match std::env::var_os("SSHPOOL_AGENT") {
            None => true,
            Some(value) if value == "on" => true,
            Some(value) if value == "off" => false,
            Some(value) => {
                return Err(Failure::Usage(format!(
                    "environment variable SSHPOOL_AGENT: {value:?} is not valid: expected on or off"
                )));
            }
        };
        Ok(Setup { ssh_config, named, file, config, agent: agent && !no_agent })
    }

    /// The agent, started if it is to be. `Err` says why there is none.
    pub(super) fn client(&self, start: bool) -> Result<Client, NoAgent> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).into_os_string()
        };
        let arguments = || {
            let mut arguments = Vec::new();
            // An agent's own idea of where the file is may be another one.
            let default = || self.file.as_ref().filter(|file| file.exists());
            if let Some(file) = self.named.as_ref().or_else(default) {
                arguments.extend(["--config".into(), absolute(file)]);
            }
            if let Some(file) = &self.ssh_config {
                arguments.extend(["-F".into(), absolute(file)]);
            }
            arguments
        };
        Client::new(&self.config.pool, start.then(arguments))
    }

    pub(super) fn has_agent(&self) -> bool {
        self.agent
    }

    /// Who runs the commands: the agent; or a pool in this process, where the user does not want an
    /// agent or where there can be none. `host` is the one to name when that fails.
    pub(super) async fn backend(&self, host: &str, more: bool) -> Result<Backend, Failure> {
        if !self.agent {
            return Ok(Backend::Pool(self.pool(host, more)?));
        }
        let client = match self.client(true) {
            // The agent has an idea of its own of where ssh is, for those who say nothing of it.
            Ok(client) if std::env::var_os("PATH").is_some() && !client.has_ssh() => {
                return Err(Failure::of(host, &Error::SshNotFound));
            }
            Ok(client) => client.reach().await.map(|()| client),
            Err(no) => Err(no),
        };
        match client {
            Ok(client) => {
                if stdio::is_changed() {
                    let heard = signals::end_on_signals();
                    heard.map_err(|error| {
                        Failure::Output(format!("cannot handle signals: {}", plain(&error)))
                    })?;
                }
                Ok(Backend::Agent(client))
            }
            Err(NoAgent::Elsewhere) => {
                tracing::info!("{}: a pool of this command's own", NoAgent::Elsewhere);
                Ok(Backend::Pool(self.pool(host, more)?))
            }
            Err(no) => {
                complain(format_args!(
                    "the connection is not kept for the next command: {no} (--no-agent does without)"
                ));
                Ok(Backend::Pool(self.pool(host, more)?))
            }
        }
    }

    pub(super) fn open(&self, target: &Target, more: bool) -> Result<Session, Failure> {
        let host = self.host(&target.host)?;
        Ok(Session { pool: self.pool(host.name(), more)?, host })
    }

    /// One way for several hosts; there is at least one.
    pub(super) async fn open_all(
        &self,
        words: &[String],
        more: bool,
    ) -> Result<(Backend, Vec<Host>), Failure> {
        let hosts = self.hosts(words)?;
        let Some(first) = hosts.first() else {
            let words = words.join(" ");
            return Err(Failure::Usage(format!("{words}: there is no host in it")));
        };
        Ok((self.backend(first.name(), more).await?, hosts))
    }

    /// What ssh would take. Where the configuration file has a host of that name, it is that one,
    /// with the user and the port that are said here put over its own.
    pub(super) fn host(&self, text: &str) -> Result<Host, Failure> {
        let host = self.config.host(text);
        let host = match &self.ssh_config {
            Some(file) => host.and_then(|host: Host| host.config_file(file)),
            None => host,
        };
        host.map_err(|error| Failure::Usage(error.to_string()))
    }

    /// What these words name, each once: hosts, ranges and groups.
    pub(super) fn host_set(&self, words: &[String]) -> Result<HostSet, Failure> {
        let usage = |error: HostSetError| Failure::Usage(error.to_string());
        let mut set = HostSet::new();
        for word in words {
            set.add(&self.config.host_set(word).map_err(usage)?).map_err(usage)?;
        }
        Ok(set)
    }

    /// The hosts among them. A word without any is told as the name that it is not.
    pub(super) fn hosts(&self, words: &[String]) -> Result<Vec<Host>, Failure> {
        if let Some(empty) = words.iter().find(|word| word.trim_matches([',', ' ']).is_empty()) {
            self.host(empty)?;
            return Err(Failure::Usage(format!("invalid host name {empty:?}: it names no host")));
        }
        self.host_set(words)?.iter().map(|name| self.host(name)).collect()
    }

    /// The pool for it all. `host` is the one to name when that fails. Sessions are opened ahead of
    /// need where more commands come.
    pub(super) fn pool(&self, host: &str, more: bool) -> Result<Pool, Failure> {
        let config = self.config.pool.clone();
        Pool::new(if more { config } else { PoolConfig { standby_sessions: 0, ..config } })
            .and_then(|pool| pool.close_on_signals().map(|()| pool))
            .map_err(|error| Failure::of(host, &error))
    }
}

/// What a command of the program needs: the pool, and the host that was meant.
pub(super) struct Session {
    pub(super) pool: Pool,
    pub(super) host: Host,
}

impl Session {
    pub(super) fn failure(&self, error: Error) -> Failure {
        Failure::of(self.host.name(), &error)
    }
}

/// The file that was named, or the one in the user's configuration directory if there is one; then
/// the environment.
fn load(named: Option<PathBuf>) -> Result<(Option<PathBuf>, Config), Failure> {
    let must_be_there = named.is_some();
    let file = named.or_else(default_config);
    let usage = |error: config::ConfigError| Failure::Usage(error.to_string());
    let mut config = match &file {
        Some(file) if must_be_there || !matches!(file.try_exists(), Ok(false)) => {
            Config::load(file).map_err(usage)?
        }
        _ => Config::default(),
    };
    config.pool.apply_env().map_err(usage)?;
    Ok((file, config))
}

/// `$XDG_CONFIG_HOME/sshpool/config.toml`, or below `~/.config`.
pub(super) fn default_config() -> Option<PathBuf> {
    let directory = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")))?;
    Some(directory.join("sshpool/config.toml"))
}

/// A copy of an ssh_config that can be read only once. ssh is asked for it several times.
pub(super) fn from_a_pipe(file: &Path) -> Result<Option<tempfile::NamedTempFile>, Failure> {
    const MOST: u64 = 4 << 20;
    let kind = match std::fs::metadata(file) {
        Ok(found) => found.file_type(),
        // Whoever opens it says why that cannot be done.
        Err(_) => return Ok(None),
    };
    if !(kind.is_fifo() || kind.is_socket() || kind.is_char_device())
        || file == Path::new("/dev/null")
    {
        return Ok(None);
    }
    let cannot =
        |error: std::io::Error| Failure::Usage(format!("-F {}: {}", file.display(), plain(&error)));
    let mut copy = tempfile::Builder::new().prefix("sshpool-config-").tempfile().map_err(cannot)?;
    let mut from = std::fs::File::open(file).map_err(cannot)?.take(MOST + 1);
    if std::io::copy(&mut from, &mut copy).map_err(cannot)? > MOST {
        return Err(Failure::Usage(format!("-F {}: more than {MOST} bytes", file.display())));
    }
    Ok(Some(copy))
}
