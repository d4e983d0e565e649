//! Where a forward listens on this side.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::net::{TcpListener, UnixListener, UnixStream, lookup_host};
use tokio::time::{Instant, sleep};

use super::Shared;
use super::client::{Client, Stream};
use crate::error::Error;
use crate::forward::{Endpoint, OWN_SOCKET};
use crate::openssh::SocketFile;
use crate::pool::Pool;

/// How long the guard of a pool that was killed takes to remove its sockets, at most.
const REMOVED: Duration = Duration::from_secs(2);
/// Between two looks at whether it has.
const LOOK: Duration = Duration::from_millis(50);
/// How long nobody is taken where no descriptor is free.
const FULL: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) enum Listener {
    /// One for each address.
    Tcp(Vec<TcpListener>),
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

impl Listener {
    /// Listens where the forward says, and says where that is.
    pub(super) async fn bind(pool: &Pool, shared: &Shared) -> Result<Self, Error> {
        let cannot = |error: io::Error| {
            let why = format!("cannot listen at {}: {}", shared.spec.listen(), told(&error));
            Error::Forward { host: shared.host.name().to_owned(), reason: why }
        };
        let (listener, at) = match shared.spec.listen() {
            Endpoint::Socket(path) => {
                let own = match path == Path::new(OWN_SOCKET) {
                    true => Some(pool.core().transport().private_path().map_err(cannot)?),
                    false => None,
                };
                let path = own.as_ref().unwrap_or(path);
                let file = bind_socket(path).await.map_err(cannot)?;
                let guarded = pool.core().transport().guards(path).map_err(cannot)?;
                let listener = Listener::Unix { listener: file, _file: guarded };
                (listener, Endpoint::Socket(path.clone()))
            }
            Endpoint::Port { host, port } => {
                let all = bind_ports(host.as_deref(), *port).await.map_err(cannot)?;
                let first = all.first().map(TcpListener::local_addr);
                let port = first.and_then(Result::ok).map_or(*port, |at| at.port());
                (Listener::Tcp(all), Endpoint::Port { host: host.clone(), port })
            }
        };
        shared.listens(at);
        Ok(listener)
    }

    /// The next client. Cancel safe.
    pub(super) async fn accept(&self) -> Client {
        loop {
            let taken = match self {
                Listener::Tcp(all) => {
                    let (taken, ..) =
                        select_all(all.iter().map(|one| Box::pin(one.accept()))).await;
                    taken.map(|(stream, _)| Stream::Tcp(stream))
                }
                Listener::Unix { listener, .. } => {
                    listener.accept().await.map(|(stream, _)| Stream::Unix(stream))
                }
            };
            match taken {
                Ok(stream) => return Client::new(stream),
                Err(error) => {
                    tracing::debug!(%error, "no client can be taken");
                    sleep(FULL).await;
                }
            }
        }
    }
}

/// In the words of the system, and what is to be done about it.
fn told(error: &io::Error) -> String {
    let text = crate::text::plain(error);
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{text} (port 0 takes one that is free)"),
        io::ErrorKind::AlreadyExists => format!("{text} (remove it, or give another path)"),
        _ => text.to_string(),
    }
}

/// As ssh does: where no address is given the loopback interface, for `*` or an empty one all.
async fn bind_ports(host: Option<&str>, port: u16) -> io::Result<Vec<TcpListener>> {
    let addresses: Vec<SocketAddr> = match host {
        None | Some("localhost") => {
            vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
        }
        Some("" | "*") => vec![(Ipv6Addr::UNSPECIFIED, port).into()],
        Some(host) => lookup_host((host, port)).await?.collect(),
    };
    let mut all: Vec<TcpListener> = Vec::new();
    let mut failed = None;
    for mut address in addresses {
        // All have the port that was chosen for the first one.
        if let Some(first) = all.first() {
            address.set_port(first.local_addr()?.port());
        }
        let bound = TcpListener::bind(address).await;
        // A machine without IPv6.
        let bound = match (bound, host) {
            (Err(_), Some("" | "*")) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
            (bound, _) => bound,
        };
        match bound {
            Ok(listener) => all.push(listener),
            // Where only one of the families is there, that one does.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                failed.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match failed {
        Some(error) if all.is_empty() => Err(error),
        _ => Ok(all),
    }
}

/// A socket for this user alone, from its first instant on. What is in its place stays there; but
/// what a killed pool has left is gone in a moment.
async fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let give_up = Instant::now() + REMOVED;
    loop {
        let bound = bind_private(path);
        match bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let is_dead = UnixStream::connect(path)
                    .await
                    .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
                if !is_dead || give_up <= Instant::now() {
                    let there = match is_dead {
                        true => "a socket is left there, on which nobody listens",
                        false => "something is there already",
                    };
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, there));
                }
                sleep(LOOK).await;
            }
            bound => return bound,
        }
    }
}

/// It gets its name when nobody else can connect to it any more.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let private = tempfile::Builder::new().prefix(".sshpool-").tempdir_in(directory)?;
    let first = private.path().join("s");
    let listener = UnixListener::bind(&first)?;
    std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o600))?;
    // Unlike a renaming, a link takes nobody's place.
    match std::fs::hard_link(&first, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, error))
        }
        linked => linked.map(|()| listener),
    }
}
