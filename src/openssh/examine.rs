//! What `sshpool doctor` asks of ssh and its helpers before a login: the whole configuration of a
//! host, the agent, known hosts, and room for control sockets. Nothing here connects to a host.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Answer;
use super::resolve::{Destination, answered, ask};
use super::runtime::{Runtime, local};
use super::trace::{DEBUG, Trace};
use super::{OpenSsh, args, program};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::Host;
use crate::host::place::Place;
use crate::text::{plain, printable};

/// How long an agent may take. One that is somewhere else (forwarded) answers in a round trip; one
/// that has hung never does.
const AGENT: Duration = Duration::from_secs(2);

/// Room that a master's log and its socket take, with an ample margin.
const ROOM: usize = 64 * 1024;

/// How many sessions at once a server opens on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Is(usize),
    /// So many were opened, and no more were asked for.
    AtLeast(usize),
}

/// What ssh's configuration says about a host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub destination: Destination,
    pub user: String,
    /// As the configuration has them: `~` and `%` may stand for something.
    pub identity_files: Vec<String>,
    pub identities_only: bool,
    /// Instead of `SSH_AUTH_SOCK`; `none` for no agent at all.
    pub identity_agent: Option<String>,
    pub known_hosts: Vec<PathBuf>,
    /// `yes`, `ask`, `accept-new`, …
    pub strict: String,
    /// `any`, `inet` or `inet6`.
    pub address_family: String,
    /// The files that it was read from.
    pub files: Vec<PathBuf>,
}

/// What an agent answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    /// A line for each key: length, fingerprint, comment, type.
    Keys(Vec<String>),
    Silent(String),
    /// There is no `ssh-add` to ask it by.
    NotAsked,
}

impl OpenSsh {
    /// Records the steps of the next login in this trace.
    pub(crate) fn watch(&self, trace: std::sync::Arc<Trace>) {
        *self.watched.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(trace);
    }

    /// The directory for control sockets, made and tried.
    pub(crate) fn room(&self) -> Result<PathBuf, ConnectError> {
        let runtime = self.runtime()?;
        let path = runtime.fresh_path();
        let directory = path.parent().unwrap_or(&path).to_owned();
        let written = Runtime::create_file(&path).and_then(|mut file| {
            file.write_all(&[0; ROOM])?;
            file.sync_all()
        });
        // If this fails, the file goes with its directory.
        let _ = std::fs::remove_file(&path);
        written.map_err(|error| {
            local(format!(
                "cannot write {} KiB below {}: {}",
                ROOM / 1024,
                directory.display(),
                plain(&error)
            ))
        })?;
        Ok(directory)
    }

    /// What the configuration says about this host.
    pub(crate) async fn resolved(&self, host: &Host) -> Result<Resolved, ConnectError> {
        let place = Place::own();
        check_files(host, &place)?;
        let (program, runtime) = (self.program(&place)?, self.runtime()?);
        let launch = self.launch(&program, &runtime, Instant::now() + self.limit.connect_timeout);
        let finished = ask(&launch, args::resolve_verbosely(host), |_| ()).await?;
        Resolved::of(&answered(&finished)?, &finished.stderr)
    }
}

impl Resolved {
    fn of(answer: &Answer, verbose: &str) -> Result<Self, ConnectError> {
        let or_empty = |option| answer.value(option).unwrap_or_default().trim().to_owned();
        let identity_files = answer.values("identityfile");
        let known = ["userknownhostsfile", "globalknownhostsfile"].map(or_empty);
        let read = verbose.lines().filter_map(|line| {
            line.trim().strip_prefix(DEBUG)?.strip_prefix("Reading configuration data ")
        });
        let mut files: Vec<PathBuf> = Vec::new();
        for file in read.map(PathBuf::from) {
            // A `Match final` has them read again.
            if !files.contains(&file) {
                files.push(file);
            }
        }
        Ok(Resolved {
            destination: Destination::of(answer)?,
            user: or_empty("user"),
            identity_files: identity_files
                .map(|file| file.trim().trim_matches('"').to_owned())
                .collect(),
            identities_only: answer.value("identitiesonly") == Some("yes"),
            identity_agent: answer.value("identityagent").map(str::to_owned),
            // Names with blanks would be in quotes. Such names are not expected, and not read here.
            known_hosts: known
                .iter()
                .flat_map(|list| list.split_whitespace())
                .map(PathBuf::from)
                .collect(),
            strict: or_empty("stricthostkeychecking"),
            address_family: or_empty("addressfamily"),
            files,
        })
    }
}

/// Looks at the files that the host names. ssh would go on without a key that is not there, and
/// then say that something else is wrong.
pub(super) fn check_files(host: &Host, place: &Place) -> Result<(), ConnectError> {
    let files = [
        (ConnectErrorKind::KeyFile, host.get_identity_file()),
        (ConnectErrorKind::BadOption, host.get_config_file()),
    ];
    for (kind, path) in files {
        // "none" is a word of ssh's, not a file.
        if let Some(path) = path.filter(|path| *path != Path::new("none"))
            && let Err(error) = std::fs::File::open(place.path(path))
        {
            use nix::errno::Errno;
            let out_of_descriptors = [Errno::EMFILE, Errno::ENFILE].map(|errno| Some(errno as i32));
            let kind = match out_of_descriptors.contains(&error.raw_os_error()) {
                true => ConnectErrorKind::Local,
                false => kind,
            };
            return Err(ConnectError::new(
                kind,
                format!("{}: {}", path.display(), plain(&error)),
                Vec::new(),
            ));
        }
    }
    Ok(())
}

/// Asks the agent behind this socket for its keys.
pub(crate) async fn agent(socket: &Path) -> Agent {
    let environment = [("SSH_AUTH_SOCK", socket)];
    let called =
        program::call_other("ssh-add", vec!["-l".into()], &environment, Instant::now() + AGENT);
    match called.await {
        // 1: it has none, and says so.
        Ok(finished) if matches!(finished.code, Some(0 | 1)) => {
            let is_key = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
            Agent::Keys(finished.stdout.lines().filter(is_key).map(printable).collect())
        }
        Ok(finished) => {
            Agent::Silent(printable(finished.stderr.lines().next().unwrap_or("ssh-add failed")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Agent::NotAsked,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Agent::Silent(format!("no answer within {AGENT:?}"))
        }
        Err(error) => Agent::Silent(plain(&error)),
    }
}

/// The types of the keys that a file has for a host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub keys: Vec<String>,
    /// Keys that are marked as revoked.
    pub revoked: Vec<String>,
    /// Keys of certificate authorities for the host.
    pub authorities: Vec<String>,
}

/// What this file knows about a host; `None` when it cannot be asked.
pub(crate) async fn known_keys(known_as: &str, file: &Path, limit: Duration) -> Option<Known> {
    let args = vec!["-F".into(), known_as.into(), "-f".into(), file.into()];
    let finished =
        program::call_other("ssh-keygen", args, &[], Instant::now() + limit).await.ok()?;
    Some(Known::of(&finished.stdout))
}

impl Known {
    /// Lines of known_hosts, as `ssh-keygen -F` prints them between its own.
    fn of(lines: &str) -> Self {
        let mut known = Known::default();
        for line in lines.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let (list, place) = match words.clone().next() {
                Some("@revoked") => (&mut known.revoked, 2),
                Some("@cert-authority") => (&mut known.authorities, 2),
                _ => (&mut known.keys, 1),
            };
            list.extend(words.nth(place).map(printable));
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_read() {
        let resolved = "user deploy\nhostname h\nport 2222\naddressfamily inet\nidentitiesonly \
            yes\n\
            identityfile ~/.ssh/a b\nidentityfile /k\nuserknownhostsfile /a \
            /b\nglobalknownhostsfile /c\n\
            stricthostkeychecking ask\n";
        let verbose = "debug1: Reading configuration data /root/.ssh/config\r\ndebug1: x\r\n\
            debug1: Reading configuration data /etc/ssh/ssh_config\r\ndebug1: Reading \
            configuration data /root/.ssh/config\r\n";
        let found = Resolved::of(&Answer::new(resolved), verbose).expect("it is all there");
        assert_eq!((&*found.user, &*found.destination.known_as), ("deploy", "[h]:2222"));
        assert_eq!(found.identity_files, ["~/.ssh/a b", "/k"]);
        assert_eq!(found.known_hosts, ["/a", "/b", "/c"].map(PathBuf::from));
        assert_eq!(found.files, ["/root/.ssh/config", "/etc/ssh/ssh_config"].map(PathBuf::from));
        assert!(found.identities_only && found.identity_agent.is_none());
    }

    #[test]
    fn a_line_of_known_hosts_has_a_type() {
        let lines = "# Host h found: line 1 REVOKED\n@revoked h ssh-rsa AAAA\n# Host h found: line \
            2\n\
            h ssh-ed25519 AAAA\n# Host h found: line 3 CA\n@cert-authority *.h ecdsa-sha2-nistp256 \
            AAAA\n";
        let list = |kind: &str| vec![kind.to_owned()];
        let known = Known {
            keys: list("ssh-ed25519"),
            revoked: list("ssh-rsa"),
            authorities: list("ecdsa-sha2-nistp256"),
        };
        assert_eq!(Known::of(lines), known);
        assert_eq!(Known::of(""), Known::default());
    }
}
