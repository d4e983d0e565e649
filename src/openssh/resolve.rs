//! What the ssh_config says about a host: `ssh -G`, asked before each login.

use std::ffi::OsString;

use tokio::process::Command;

use super::answer::Answer;
use super::args::{self, System};
use super::diagnosis;
use super::launch::Launch;
use super::program;
use super::route::Route;
use super::runtime::{Runtime, local};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::Host;
use crate::text::plain;

/// Options of a master that the configuration does not set.
pub(super) async fn defaults(
    launch: &Launch<'_>,
    host: &Host,
    route: &Route,
) -> Result<Vec<(&'static str, String)>, ConnectError> {
    let ours = || args::DEFAULTS.map(|(option, value)| (option, value.to_owned()));
    let is_ours = |option: &str, answer: Option<&Answer>| match (option, answer) {
        ("StrictHostKeyChecking", answer) if route.mentions_host_keys => answer?
            .value("stricthostkeychecking")
            .filter(|value| *value == "accept-new")
            .map(str::to_owned),
        // Nor does plain ssh, which connects to a hop by its own configuration.
        ("StrictHostKeyChecking", _) if host.is_hop() => None,
        ("StrictHostKeyChecking", _) => Some("accept-new".to_owned()),
        (option, answer) if route.mentions_keepalive => {
            answer?.value(&option.to_ascii_lowercase()).map(str::to_owned)
        }
        (option, _) => {
            ours().into_iter().find_map(|(known, value)| (known == option).then_some(value))
        }
    };
    let told = |answer: Option<&Answer>| {
        let options = ours().into_iter().map(|(option, _)| option);
        options.filter_map(|option| Some((option, is_ours(option, answer)?))).collect()
    };
    // What ssh says by itself of these may have been said, or be its own default: that looks alike.
    let says_ask = route.answer.value("stricthostkeychecking") == Some("ask");
    if !(route.mentions_keepalive || route.mentions_host_keys && says_ask) {
        return Ok(told(None));
    }
    for system in [System::Included, System::Copied] {
        let path = launch.runtime.fresh_path();
        let written =
            args::config_with_defaults(route.config_file.as_deref(), system, route.has_final)
                .and_then(|config| {
                    std::io::Write::write_all(&mut Runtime::create_file(&path)?, &config)
                });
        written.map_err(|error| {
            local(format!("cannot write {}: {}", path.display(), plain(&error)))
        })?;
        let arguments = args::resolve(host, Some(&path));
        let finished = ask(launch, arguments, |command| route.prepare(command)).await;
        // If this fails, the file goes with its directory.
        let _ = std::fs::remove_file(&path);
        let finished = finished?;
        if finished.code == Some(0) {
            return Ok(told(Some(&Answer::new(&finished.stdout))));
        }
        // ssh is stricter about the owner of what is included than about its own file, which may
        // belong to nobody in a container.
        tracing::debug!(
            stderr = finished.stderr.trim(),
            "the configuration cannot be read with defaults behind it"
        );
    }
    Ok(told(None))
}

/// Where a login goes, as the configuration has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub hostname: String,
    pub port: u16,
    /// What the host's key is looked up under.
    pub known_as: String,
    /// The line of ssh_config by which it goes another way than straight over TCP.
    pub proxy: Option<String>,
}

impl Destination {
    pub(super) fn of(answer: &Answer) -> Result<Self, ConnectError> {
        let (_, hostname, port) = answer.destination().ok_or_else(says_nothing)?;
        let known_as = match (answer.value("hostkeyalias"), port) {
            (Some(alias), _) => alias.to_owned(),
            (None, 22) => hostname.to_owned(),
            // As ssh itself writes it into known_hosts.
            (None, _) => format!("[{hostname}]:{port}"),
        };
        Ok(Destination { hostname: hostname.to_owned(), port, known_as, proxy: proxy_of(answer) })
    }
}

/// The line of ssh_config by which a host is reached another way than straight over TCP.
pub(super) fn proxy_of(answer: &Answer) -> Option<String> {
    [("proxyjump", "ProxyJump"), ("proxycommand", "ProxyCommand")].into_iter().find_map(
        |(option, name)| {
            // `none` is a word of ssh's, which some versions print.
            let value = answer.value(option).filter(|value| *value != "none")?;
            Some(format!("{name} {}", crate::text::printable(value)))
        },
    )
}

/// `ssh -G`, under the eyes of the guard like a master: a configuration can run programs. `prepare`
/// puts it into its place.
pub(super) async fn ask(
    launch: &Launch<'_>,
    arguments: Vec<OsString>,
    prepare: impl FnOnce(&mut Command),
) -> Result<program::Finished, ConnectError> {
    let version =
        launch.program.version(launch.deadline).await.map_err(|e| call_failed("ssh -V", &e))?;
    let mut command = launch.program.command(args::in_the_foreground(arguments, version));
    prepare(&mut command);
    let spawned = launch.runtime.spawn(program::captured(&mut command));
    let (child, _tenancy) = spawned.map_err(|error| call_failed("ssh -G", &error))?;
    program::finish(child, launch.deadline, launch.runtime.claim())
        .await
        .map_err(|error| call_failed("ssh -G", &error))
}

/// What it has answered.
pub(super) fn answered(finished: &program::Finished) -> Result<Answer, ConnectError> {
    if finished.code != Some(0) {
        return Err(diagnosis::connect_failure(&finished.stderr, "ssh -G failed"));
    }
    let answer = Answer::new(&finished.stdout);
    if answer.destination().is_none() {
        return Err(says_nothing());
    }
    Ok(answer)
}

fn says_nothing() -> ConnectError {
    local("ssh -G does not say where the host is".to_owned())
}

pub(super) fn call_failed(what: &str, error: &std::io::Error) -> ConnectError {
    match error.kind() {
        std::io::ErrorKind::NotFound => ConnectError::new(
            ConnectErrorKind::SshMissing,
            "the ssh program is gone from where it was found",
            Vec::new(),
        ),
        std::io::ErrorKind::TimedOut => ConnectError::new(
            ConnectErrorKind::TimedOut,
            format!("{what} did not end in time"),
            Vec::new(),
        ),
        _ => local(format!("{what}: {}", plain(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("port 22\n", "web1.example", None)]
    #[case::port("port 2222\n", "[web1.example]:2222", None)]
    #[case::alias("port 2222\nhostkeyalias web\n", "web", None)]
    #[case::jump("port 22\nproxyjump a,b\n", "web1.example", Some("ProxyJump a,b"))]
    #[case::command(
        "port 22\nproxycommand nc %h %p\n",
        "web1.example",
        Some("ProxyCommand nc %h %p")
    )]
    #[case::none("port 22\nproxyjump none\nproxyusefdpass no\n", "web1.example", None)]
    fn the_destination_is_what_ssh_says(
        #[case] more: &str,
        #[case] known_as: &str,
        #[case] proxy: Option<&str>,
    ) {
        let found =
            Destination::of(&Answer::new(&format!("user deploy\nhostname web1.example\n{more}")))
                .expect("said");
        assert_eq!((&*found.hostname, &*found.known_as), ("web1.example", known_as));
        assert_eq!(found.proxy.as_deref(), proxy);
    }

    #[test]
    fn a_text_that_does_not_say_it_has_no_destination() {
        for text in ["user x\nhostname web1\n", "user x\nhostname web1\nport many\n"] {
            assert!(Destination::of(&Answer::new(text)).is_err());
        }
    }
}
