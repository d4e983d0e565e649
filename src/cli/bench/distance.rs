//! A host that is made to be further away: a port of this machine leads to it with a delay, and ssh
//! connects to that.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::cli::delay::Delay;
use crate::cli::failure::{Failure, NOT_RUN, USAGE};
use crate::cli::setup::Session;
use crate::error::Error;
use crate::host::{Host, HostError};
use crate::openssh::Destination;
use crate::text::plain;

/// How long the host itself has to answer when a login through the delay has failed.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Distance {
    delay: Delay,
    to: Destination,
    /// As the user has it, but for the way there.
    host: Host,
}

impl Distance {
    /// From here to the host of this session, and back.
    pub(super) async fn between(session: &Session, round_trip: Duration) -> Result<Self, Failure> {
        let host = &session.host;
        let to = session.pool.core().transport.destination(host).await;
        let to = to.map_err(|source| {
            session.failure(Error::Connect { host: host.name().to_owned(), source })
        })?;
        if let Some(proxy) = &to.proxy {
            let text = format!(
                "--rtt needs a host that ssh reaches straight over TCP, and here the configuration says \"{proxy}\": leave --rtt out"
            );
            return Err(Failure::Host { host: host.name().to_owned(), text, status: USAGE });
        }
        let delay = Delay::start((to.hostname.clone(), to.port), round_trip).await;
        let delay = delay.map_err(|error| {
            let what = format!("cannot look up {} or open a port of 127.0.0.1", to.hostname);
            Failure::of_host(host, &format_args!("{what}: {}", plain(&error)), NOT_RUN)
        })?;
        let host =
            by_way_of(host, delay.port(), &to).map_err(|error| session.failure(error.into()))?;
        Ok(Distance { delay, to, host })
    }

    /// The host, by way of the delay.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// ssh cannot tell that the host itself was not reached: for it the port was there, and closed
    /// the connection.
    pub(super) async fn explain(self, failure: Failure) -> Failure {
        // What it has kept open would count for the server.
        drop(self.delay);
        let Destination { hostname, port, .. } = &self.to;
        let reached =
            tokio::time::timeout(PATIENCE, TcpStream::connect((hostname.as_str(), *port))).await;
        let why = match reached {
            Ok(Ok(_)) => return failure,
            Ok(Err(error)) => plain(&error).to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        Failure::of_host(
            &self.host,
            &format_args!("cannot connect to {hostname} port {port}: {why}"),
            NOT_RUN,
        )
    }
}

/// The same host, but reached on this port of 127.0.0.1. Its key is looked up under the name that
/// it had.
fn by_way_of(host: &Host, port: u16, to: &Destination) -> Result<Host, HostError> {
    host.clone()
        .address("127.0.0.1")?
        .port(port)?
        .option("HostKeyAlias", &to.known_as)?
        // The address is not the host's.
        .option("CheckHostIP", "no")?
        // Where only IPv6 is wanted, that is for the real address.
        .option("AddressFamily", "any")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_way_leaves_everything_else_as_it_was() {
        let host = Host::new("web1")
            .and_then(|host| host.address("192.0.2.7"))
            .and_then(|host| host.user("deploy"));
        let host = host.and_then(|host| host.option("Compression", "yes")).expect("a valid host");
        let to = Destination {
            hostname: "192.0.2.7".to_owned(),
            port: 2222,
            known_as: "[192.0.2.7]:2222".to_owned(),
            proxy: None,
        };
        let far = by_way_of(&host, 4711, &to).expect("a valid host");
        assert_eq!((far.name(), far.get_user()), ("web1", Some("deploy")));
        assert_eq!((far.get_address(), far.get_port()), (Some("127.0.0.1"), Some(4711)));
        let options: Vec<_> = far.get_options().collect();
        assert_eq!(options[..2], [("Compression", "yes"), ("HostKeyAlias", "[192.0.2.7]:2222")]);
    }
}
