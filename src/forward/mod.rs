//! What is to be forwarded, in ssh's own words: the values of `-L`, `-R` and `-D`.
//!
//! A [`ForwardSpec`] is read as ssh reads these options (its `parse_forward`): fields between
//! colons, an address with colons in square brackets, a backslash before a character that is meant
//! as it is, and a field with a slash in it is the path of a Unix socket. What ssh would expand
//! (`%h`, `${HOME}`) is refused: the pool has no place in which it would mean the same.

mod parse;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A port or a socket, on one of the two sides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP port. As a place to listen, no host is the loopback interface, and an empty one or `*`
    /// are all interfaces.
    Port {
        /// A name or an address, without brackets.
        host: Option<String>,
        /// 0 for one that the system chooses.
        port: u16,
    },
    /// The path of a Unix socket.
    Socket(PathBuf),
}

/// Which side listens, and who is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `-L`: here, and the host connects.
    Local,
    /// `-R`: on the host, and connections are made from here. Without a target the host's clients
    /// name it themselves (SOCKS).
    Remote,
    /// `-D`: here, and clients name the target themselves (SOCKS); the host connects.
    Dynamic,
}

/// The path of a socket that is to be in the pool's private directory.
pub const OWN_SOCKET: &str = "/";

/// A port or a socket that is to be forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForwardSpec {
    direction: Direction,
    listen: Endpoint,
    target: Option<Endpoint>,
}

/// Why a text names no forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {text:?}: {reason} (allowed: {})", direction.forms())]
pub struct ForwardSpecError {
    flag: &'static str,
    text: String,
    reason: &'static str,
    direction: Direction,
}

impl Direction {
    /// ssh's option for it.
    pub fn flag(self) -> &'static str {
        match self {
            Direction::Local => "-L",
            Direction::Remote => "-R",
            Direction::Dynamic => "-D",
        }
    }

    fn forms(self) -> &'static str {
        match self {
            Direction::Local => {
                "[ADDRESS:]PORT:HOST:PORT, [ADDRESS:]PORT:SOCKET, SOCKET:HOST:PORT, SOCKET:SOCKET"
            }
            Direction::Remote => {
                "[ADDRESS:]PORT:HOST:PORT, [ADDRESS:]PORT:SOCKET, SOCKET:HOST:PORT, \
                    SOCKET:SOCKET, [ADDRESS:]PORT, SOCKET"
            }
            Direction::Dynamic => "[ADDRESS:]PORT",
        }
    }
}

impl ForwardSpec {
    /// What `ssh -L` is given.
    ///
    /// # Errors
    ///
    /// A text that ssh would not take either, or that it would expand.
    pub fn local(text: &str) -> Result<Self, ForwardSpecError> {
        Self::parse(Direction::Local, text)
    }

    /// What `ssh -R` is given.
    ///
    /// # Errors
    ///
    /// As [`local`](Self::local).
    pub fn remote(text: &str) -> Result<Self, ForwardSpecError> {
        Self::parse(Direction::Remote, text)
    }

    /// What `ssh -D` is given.
    ///
    /// # Errors
    ///
    /// As [`local`](Self::local).
    pub fn dynamic(text: &str) -> Result<Self, ForwardSpecError> {
        Self::parse(Direction::Dynamic, text)
    }

    /// What this option of ssh is given.
    ///
    /// # Errors
    ///
    /// As [`local`](Self::local).
    pub fn parse(direction: Direction, text: &str) -> Result<Self, ForwardSpecError> {
        let (listen, target) = parse::parse(direction, text).map_err(|reason| {
            ForwardSpecError { flag: direction.flag(), text: text.to_owned(), reason, direction }
        })?;
        Ok(ForwardSpec { direction, listen, target })
    }

    /// A Unix socket here that leads to one of the host. Where it is [`OWN_SOCKET`], it is in the
    /// pool's private directory, and [`Forward::listening`](crate::Forward::listening) has its
    /// path.
    pub fn sockets(here: impl Into<PathBuf>, there: impl Into<PathBuf>) -> Self {
        let (listen, there) = (Endpoint::Socket(here.into()), Endpoint::Socket(there.into()));
        ForwardSpec { direction: Direction::Local, listen, target: Some(there) }
    }

    /// Listens here for what a command on the host is to get.
    pub(crate) fn to_command(listen: Endpoint) -> Self {
        ForwardSpec { direction: Direction::Local, listen, target: None }
    }

    /// Which side listens.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Where it listens.
    pub fn listen(&self) -> &Endpoint {
        &self.listen
    }

    /// What is connected to; none where clients say it.
    pub fn target(&self) -> Option<&Endpoint> {
        self.target.as_ref()
    }

    /// The same, with a path to listen at that does not depend on the working directory; and one
    /// that is connected to from here.
    pub(crate) fn in_directory(mut self, directory: &Path) -> Self {
        let here = match self.direction {
            Direction::Local | Direction::Dynamic => Some(&mut self.listen),
            Direction::Remote => self.target.as_mut(),
        };
        if let Some(Endpoint::Socket(path)) = here {
            *path = directory.join(&path);
        }
        self
    }

    /// The same, listening elsewhere.
    pub(crate) fn at(mut self, listen: Endpoint) -> Self {
        self.listen = listen;
        self
    }

    /// As an argument of ssh, without the option; with another place to listen.
    pub(crate) fn argument_at(&self, listen: &Endpoint) -> String {
        match &self.target {
            None => listen.to_string(),
            Some(target) => format!("{listen}:{target}"),
        }
    }
}

impl fmt::Display for ForwardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction.flag(), self.argument_at(&self.listen))
    }
}

/// What [`ForwardSpec`]'s `Display` says: an option of ssh and its value.
impl FromStr for ForwardSpec {
    type Err = ForwardSpecError;

    fn from_str(text: &str) -> Result<Self, ForwardSpecError> {
        let all = [Direction::Local, Direction::Remote, Direction::Dynamic];
        let text = text.trim();
        match all.iter().find_map(|one| Some((*one, text.strip_prefix(one.flag())?))) {
            Some((direction, value)) => Self::parse(direction, value.trim_start()),
            // The one that is most used.
            None => Self::parse(Direction::Local, text),
        }
    }
}

/// As ssh reads it back.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Port { host: None, port } => write!(f, "{port}"),
            Endpoint::Port { host: Some(host), port } if host.contains(':') => {
                write!(f, "[{host}]:{port}")
            }
            Endpoint::Port { host: Some(host), port } => write!(f, "{host}:{port}"),
            Endpoint::Socket(path) => {
                for c in path.to_string_lossy().chars() {
                    if ":\\".contains(c) {
                        f.write_str("\\")?;
                    }
                    write!(f, "{c}")?;
                }
                Ok(())
            }
        }
    }
}
