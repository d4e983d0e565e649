//! Local files and keys that could mend a failed login. After a change of them another login is
//! worth a try.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;

use super::keys;
use super::route::Route;
use crate::error::ConnectErrorKind;
use crate::host::Host;
use crate::transport::Configuration;

/// A digest of what could mend a failure of this kind: for host keys the files of known hosts, for
/// an authentication the configuration with all its files, the keys and what the ssh-agent holds.
/// Which these are the route knows.
pub(super) async fn fingerprint(host: &Host, kind: ConnectErrorKind) -> Configuration {
    use ConnectErrorKind::{HostCertificate, HostKeyChanged, HostKeyRevoked, HostKeyUnknown};
    let mut hasher = DefaultHasher::new();
    let Some(route) = super::route_of(host) else { return hasher.finish() };
    let is_of_the_server =
        matches!(kind, HostCertificate | HostKeyChanged | HostKeyRevoked | HostKeyUnknown);
    let files = if is_of_the_server { &route.known_hosts } else { &route.keys };
    for path in files {
        let found = std::fs::metadata(path).ok();
        let facts = found.map(|file| {
            let changed = (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec());
            (file.dev(), file.ino(), file.len(), changed, file.mode(), file.uid())
        });
        (path, facts).hash(&mut hasher);
    }
    if !is_of_the_server {
        of_the_agent(&route).await.hash(&mut hasher);
    }
    hasher.finish()
}

/// What the ssh-agent holds, in the order in which it is offered, or why that is not known.
async fn of_the_agent(route: &Route) -> Result<Vec<Vec<u8>>, std::io::ErrorKind> {
    match &route.auth_sock {
        Some(socket) => keys::listed(socket.as_os_str()).await.map_err(|error| error.kind()),
        None => Ok(Vec::new()),
    }
}
