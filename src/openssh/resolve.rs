//! What the ssh_config says about a host: `ssh -G`, asked before each login, and before a benchmark that puts a distance in between.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::args::{self, System};
use super::diagnosis;
use super::master::Launch;
use super::program;
use super::runtime::{Runtime, local};
use crate::error::{ConnectError, ConnectErrorKind, plain};
use crate::host::Host;

/// Whether unknown host keys are to be accepted: the configuration says so, or says nothing.
pub(super) async fn accepts_new_host_keys(launch: &Launch<'_>, host: &Host) -> Result<bool, ConnectError> {
    // Another ssh may have been built to look elsewhere.
    if launch.program.path() == Path::new("/usr/bin/ssh") && says_nothing(host) {
        return Ok(true);
    }
    let finished = resolve(launch, host, host.get_config_file()).await?;
    if finished.code != Some(0) {
        return Err(diagnosis::connect_failure(&finished.stderr, "ssh -G failed"));
    }
    match diagnosis::host_key_checking(&finished.stdout) {
        Some("accept-new") => return Ok(true),
        // Said, or ssh's default: that looks alike.
        Some("ask") => {}
        _ => return Ok(false),
    }
    for system in [System::Included, System::Copied] {
        let path = launch.runtime.fresh_path();
        let written = args::config_with_default(host, system)
            .and_then(|config| std::io::Write::write_all(&mut Runtime::create_file(&path)?, &config));
        written.map_err(|error| local(format!("cannot write {}: {}", path.display(), plain(&error))))?;
        let finished = resolve(launch, host, Some(&path)).await;
        // It is missed by nobody, and goes with its directory at the latest.
        let _ = std::fs::remove_file(&path);
        let finished = finished?;
        if finished.code == Some(0) {
            return Ok(diagnosis::host_key_checking(&finished.stdout) == Some("accept-new"));
        }
        // ssh is stricter about the owner of what is included than about its own file, which may belong to nobody in a container.
        tracing::debug!(
            stderr = finished.stderr.trim(),
            "the configuration cannot be read with a default behind it"
        );
    }
    Ok(false)
}

/// Whether the word for it is in none of the files that ssh would read. That is so for most people, and spares them two calls of ssh. What
/// is not easily seen through counts as said.
fn says_nothing(host: &Host) -> bool {
    if host.get_options().any(|(option, _)| option.eq_ignore_ascii_case(WORD)) {
        return false;
    }
    // ssh goes by the system's list of users, and not by HOME.
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    let own = user.ok().flatten().map(|user| user.dir.join(".ssh"));
    let mut files = match (host.get_config_file(), &own) {
        (Some(file), _) if file == Path::new("none") => Vec::new(),
        (Some(file), _) => vec![file.to_owned()],
        // Without this one some systems have one of their own in another place.
        (None, Some(own)) if Path::new(SYSTEM).exists() => vec![own.join("config"), PathBuf::from(SYSTEM)],
        (None, _) => return false,
    };
    let mut seen = HashSet::new();
    while let Some(file) = files.pop() {
        if !seen.insert(file.clone()) {
            continue;
        }
        let text = match std::fs::read(&file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).to_ascii_lowercase(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => return false,
        };
        // Where a program decides what counts, ssh is asked what that makes of it.
        if text.contains(WORD) || text.contains("exec") || seen.len() > MOST_FILES {
            return false;
        }
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("include")) {
            match included(line) {
                Some(more) => files.extend(more),
                None => return false,
            }
        }
    }
    true
}

const SYSTEM: &str = "/etc/ssh/ssh_config";
/// In small letters.
const WORD: &str = "stricthostkeychecking";
/// Of more files ssh itself is asked.
const MOST_FILES: usize = 100;

/// What an `Include` in small letters names: a file, or the whole of a directory for a pattern in it. `None` where that is not certain.
fn included(line: &str) -> Option<Vec<PathBuf>> {
    let path = line.strip_prefix("include")?.trim();
    // Several of them, quotes, variables, a home: what ssh makes of these is its affair, and so are capital letters in a path.
    let is_simple = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-*?".contains(c);
    if !path.starts_with('/') || !path.chars().all(is_simple) {
        return None;
    }
    let path = Path::new(path);
    let (directory, name) = (path.parent()?, path.file_name()?.to_str()?);
    if directory.to_str()?.contains(['*', '?']) {
        return None;
    }
    if !name.contains(['*', '?']) {
        return Some(vec![path.to_owned()]);
    }
    match std::fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.as_ref().is_none_or(|path| !path.is_dir()))
            .collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
    }
}

/// Where a login goes, as the configuration has it.
#[cfg(feature = "cli")]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub hostname: String,
    pub port: u16,
    /// What the host's key is looked up under.
    pub known_as: String,
    /// The line of ssh_config by which it goes another way than straight over TCP.
    pub proxy: Option<String>,
}

#[cfg(feature = "cli")]
pub(super) async fn destination(launch: &Launch<'_>, host: &Host) -> Result<Destination, ConnectError> {
    let finished = resolve(launch, host, host.get_config_file()).await?;
    if finished.code != Some(0) {
        return Err(diagnosis::connect_failure(&finished.stderr, "ssh -G failed"));
    }
    Destination::of(&finished.stdout).ok_or_else(|| local("ssh -G does not say where the host is".to_owned()))
}

#[cfg(feature = "cli")]
impl Destination {
    pub(super) fn of(resolved: &str) -> Option<Self> {
        let value = |option| diagnosis::resolved_value(resolved, option);
        let hostname = value("hostname")?.to_owned();
        let port = value("port")?.parse().ok()?;
        let known_as = match (value("hostkeyalias"), port) {
            (Some(alias), _) => alias.to_owned(),
            (None, 22) => hostname.clone(),
            // As ssh itself writes it into known_hosts.
            (None, _) => format!("[{hostname}]:{port}"),
        };
        Some(Destination { hostname, port, known_as, proxy: proxy_of(resolved) })
    }
}

/// The line of ssh_config by which this host is reached another way than straight over TCP. What cannot be found out is not told.
pub(super) async fn way(launch: &Launch<'_>, host: &Host) -> Option<String> {
    let finished = resolve(launch, host, host.get_config_file()).await.ok()?;
    proxy_of(&finished.stdout)
}

fn proxy_of(resolved: &str) -> Option<String> {
    [("proxyjump", "ProxyJump"), ("proxycommand", "ProxyCommand")].into_iter().find_map(|(option, name)| {
        // `none` is a word of ssh's, which some versions print.
        let value = diagnosis::resolved_value(resolved, option).filter(|value| *value != "none")?;
        Some(format!("{name} {}", crate::error::printable(value)))
    })
}

/// `ssh -G`, under the eyes of the guard like a master: a configuration can run programs.
async fn resolve(
    launch: &Launch<'_>,
    host: &Host,
    config_file: Option<&Path>,
) -> Result<program::Finished, ConnectError> {
    ask(launch, args::resolve(host, config_file)).await
}

pub(super) async fn ask(
    launch: &Launch<'_>,
    args: Vec<std::ffi::OsString>,
) -> Result<program::Finished, ConnectError> {
    let mut command = launch.program.command(args);
    let spawned = launch.runtime.spawn(program::captured(&mut command));
    let (child, _tenancy) = spawned.map_err(|error| call_failed("ssh -G", &error))?;
    program::finish(child, launch.deadline, launch.runtime.claim())
        .await
        .map_err(|error| call_failed("ssh -G", &error))
}

pub(super) fn call_failed(what: &str, error: &std::io::Error) -> ConnectError {
    match error.kind() {
        std::io::ErrorKind::NotFound => ConnectError::new(
            ConnectErrorKind::SshMissing,
            "the ssh program is gone from where it was found",
            Vec::new(),
        ),
        std::io::ErrorKind::TimedOut => {
            ConnectError::new(ConnectErrorKind::TimedOut, format!("{what} did not end in time"), Vec::new())
        }
        _ => local(format!("{what}: {}", plain(error))),
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;
    use rstest::rstest;

    /// With a file whose text this is, and another one that it includes.
    #[rstest]
    #[case::empty("", "", true)]
    #[case::other_words("Host *\n  User x\n", "", true)]
    #[case::said("Host *\n  StrictHostKeyChecking no\n", "", false)]
    #[case::another_spelling("host *\n  STRICTHOSTKEYCHECKING=ask\n", "", false)]
    #[case::a_program_decides("Match exec true\n  User x\n", "", false)]
    // It may be a comment: then ssh says what it is.
    #[case::comment("# StrictHostKeyChecking is not set\n", "", false)]
    #[case::included("Include DIR/more.conf\n", "User x\n", true)]
    #[case::said_there("Include DIR/more.conf\n", "StrictHostKeyChecking yes\n", false)]
    #[case::by_a_pattern("Match all\n  include DIR/*.conf\n", "StrictHostKeyChecking yes\n", false)]
    #[case::nothing_by_a_pattern("include DIR/*.conf\n", "User x\n", true)]
    #[case::in_quotes("Include \"DIR/more.conf\"\n", "", false)]
    #[case::with_an_equals_sign("Include=DIR/more.conf\n", "", false)]
    #[case::relative("Include more.conf\n", "", false)]
    #[case::several("Include DIR/a DIR/more.conf\n", "", false)]
    #[case::not_there("Include /no/such/file\n", "", true)]
    // That is an error, which ssh tells.
    #[case::itself("Include DIR/config\n", "", true)]
    fn what_the_files_say_of_host_keys(#[case] text: &str, #[case] more: &str, #[case] nothing: bool) {
        let directory = small_directory();
        let text = text.replace("DIR", directory.path().to_str().expect("it is text"));
        std::fs::write(directory.path().join("config"), text).expect("a file");
        std::fs::write(directory.path().join("more.conf"), more).expect("a file");
        let host = Host::new("web1").and_then(|host| host.config_file(directory.path().join("config")));
        assert_eq!(says_nothing(&host.expect("a host")), nothing);
    }

    #[test]
    fn an_option_of_the_host_says_it() {
        let host = Host::new("web1").and_then(|host| host.config_file("none")).expect("a host");
        assert!(says_nothing(&host));
        assert!(!says_nothing(&host.option("StrictHostKeyChecking", "ask").expect("an option")));
    }

    /// One without capital letters in its path.
    fn small_directory() -> tempfile::TempDir {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("sshpool-resolve-{}-{number}-", std::process::id());
        tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in("/tmp").expect("a directory")
    }

    #[rstest]
    #[case::plain("port 22\n", "web1.example", None)]
    #[case::port("port 2222\n", "[web1.example]:2222", None)]
    #[case::alias("port 2222\nhostkeyalias web\n", "web", None)]
    #[case::jump("port 22\nproxyjump a,b\n", "web1.example", Some("ProxyJump a,b"))]
    #[case::command("port 22\nproxycommand nc %h %p\n", "web1.example", Some("ProxyCommand nc %h %p"))]
    #[case::none("port 22\nproxyjump none\nproxyusefdpass no\n", "web1.example", None)]
    fn the_destination_is_what_ssh_says(
        #[case] more: &str,
        #[case] known_as: &str,
        #[case] proxy: Option<&str>,
    ) {
        let found =
            Destination::of(&format!("user deploy\nhostname web1.example\n{more}")).expect("it is said");
        assert_eq!((&*found.hostname, &*found.known_as), ("web1.example", known_as));
        assert_eq!(found.proxy.as_deref(), proxy);
    }

    #[test]
    fn a_text_that_does_not_say_it_has_no_destination() {
        assert_eq!(Destination::of("hostname web1\n"), None);
        assert_eq!(Destination::of("hostname web1\nport many\n"), None);
    }
}
