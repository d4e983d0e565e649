//! What can be seen on this machine, before a connection is made.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::finding::Finding;
use super::report::{Facts, Recorder};
use super::{Sources, advice, keys};
use crate::host::Host;
use crate::host::place::Place;
use crate::openssh::{Agent, Resolved, agent, known_keys};
use crate::pool::Pool;
use crate::text::plain;

/// The first version that knows `accept-new`.
const OLDEST: (u32, u32) = (7, 6);
/// So many keys a server takes by default before it ends the connection (`MaxAuthTries`).
const MOST_TRIES: usize = 5;

/// Looks at everything. `None`: something is missing that every connection needs.
pub(super) async fn examine(
    sources: &Sources<'_>,
    pool: &Pool,
    host: &Host,
    recorder: &mut Recorder<'_>,
) -> Option<Resolved> {
    let found = pool.core().transport.program(&Place::own());
    let program = found.map_or_else(|_| "ssh".into(), |program| program.path().to_owned());
    let version = pool.ssh_version().await;
    let finding = ssh(&program, version, &mut recorder.facts);
    recorder.add(finding);
    recorder.add(settings(sources, host));
    let room = pool.core().transport.room();
    let is_room = room.is_ok();
    recorder.add(match room {
            Ok(directory) => Finding::ok("sockets", directory.display().to_string()),
            Err(error) => advice::failed("sockets", &error).todo(
                "make room there, or set XDG_RUNTIME_DIR or TMPDIR to another directory: short, on a local disk, \
                 and yours alone",
            ),
        });
    if !is_room {
        return None;
    }
    let resolved = match pool.core().transport.resolved(host).await {
        Ok(resolved) => resolved,
        Err(error) => {
            let finding = advice::failed("ssh_config", &error);
            let todo = advice::before_a_connection(error.kind());
            recorder.add(finding.todo(todo));
            return None;
        }
    };
    recorder.add(ssh_config(sources, host, &resolved));
    recorder.add(destination(&resolved));
    recorder.facts.resolve(&resolved);

    let (agent, has_keys) = agent_of(&resolved).await;
    for finding in keys::look(&identity_files(&resolved), has_keys) {
        recorder.add(finding);
    }
    recorder.add(agent);
    recorder.add(known_hosts(&resolved, pool).await);
    recorder.add(name(&resolved, pool).await);
    Some(resolved)
}

fn ssh(
    program: &Path,
    version: Result<crate::openssh::SshVersion, crate::error::Error>,
    facts: &mut Facts,
) -> Finding {
    facts.ssh.path = Some(program.display().to_string());
    let version = match version {
        Ok(version) => version,
        Err(error) => {
            return Finding::failed("ssh", format!("{} does not run", program.display()))
                .why(error.to_string())
                .todo(
                    "install the OpenSSH client (Debian: openssh-client), or put its directory first in PATH",
                );
        }
    };
    facts.ssh.version = Some(version.text().to_owned());
    let what = format!("{}, {}", program.display(), version.text());
    match version.number() {
        Some(number) if number >= OLDEST => Finding::ok("ssh", what),
        Some(_) => Finding::warning("ssh", what)
            .why("it is older than 7.6, and does not know StrictHostKeyChecking=accept-new")
            .todo("install a newer OpenSSH client"),
        None => Finding::warning("ssh", what)
            .why("it does not call itself OpenSSH, and sshpool knows no other client")
            .todo("put the directory of OpenSSH's client first in PATH"),
    }
}

fn settings(sources: &Sources<'_>, host: &Host) -> Finding {
    let in_hosts = match sources.has_host {
        true => format!("has [hosts.{}]", host.name()),
        false => format!("has no host {}", host.name()),
    };
    match sources.file {
        Some(file) if file.exists() => {
            Finding::ok("settings", format!("{}, {in_hosts}", file.display()))
        }
        Some(file) => {
            Finding::ok("settings", format!("the defaults; there is no {}", file.display()))
        }
        None => Finding::ok("settings", "the defaults; there is no home directory"),
    }
}

fn ssh_config(sources: &Sources<'_>, host: &Host, resolved: &Resolved) -> Finding {
    let list =
        resolved.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    let given = match (sources.names_ssh_config, host.get_config_file()) {
        (true, _) => " (-F)",
        (false, Some(_)) => " (ssh_config in [hosts])",
        (false, None) => "",
    };
    match list.is_empty() {
        true => Finding::ok("ssh_config", format!("none{given}")),
        false => Finding::ok("ssh_config", format!("{list}{given}")),
    }
}

fn destination(resolved: &Resolved) -> Finding {
    let to = &resolved.destination;
    let way = to.proxy.as_ref().map(|proxy| format!(", by way of {proxy}")).unwrap_or_default();
    Finding::ok("host", format!("{}@{} port {}{way}", resolved.user, to.hostname, to.port))
}

/// The identity files with the paths that ssh will open, as far as we know what it makes of them.
fn identity_files(resolved: &Resolved) -> Vec<(String, Option<PathBuf>)> {
    let files = resolved.identity_files.iter().filter(|file| *file != "none");
    files.map(|file| (file.clone(), expanded(file, resolved))).collect()
}

/// `~` and those of ssh's `%` that are known here.
fn expanded(file: &str, resolved: &Resolved) -> Option<PathBuf> {
    let home = || std::env::home_dir().map(|home| home.to_string_lossy().into_owned());
    let file = match file.strip_prefix("~/") {
        Some(rest) => format!("{}/{rest}", home()?),
        None => file.to_owned(),
    };
    let mut path = String::new();
    let mut chars = file.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next()? {
                '%' => path.push('%'),
                'd' => path += &home()?,
                'h' => path += &resolved.destination.hostname,
                'p' => path += &resolved.destination.port.to_string(),
                'r' => path += &resolved.user,
                _ => return None,
            },
            // A variable of the environment, `${HOME}`.
            '$' => return None,
            c => path.push(c),
        }
    }
    Some(PathBuf::from(path))
}

/// The agent, and whether it has keys.
async fn agent_of(resolved: &Resolved) -> (Finding, bool) {
    let variable = || std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
    let (socket, place) = match resolved.identity_agent.as_deref() {
        Some("none") => return (Finding::skipped("ssh-agent", "none: IdentityAgent none"), false),
        // ssh's word for the variable, and names of other variables.
        Some("SSH_AUTH_SOCK") | None => (variable().map(PathBuf::from), "SSH_AUTH_SOCK"),
        Some(name) if name.starts_with('$') => {
            (std::env::var_os(&name[1..]).map(PathBuf::from), "IdentityAgent")
        }
        Some(path) => (expanded(path, resolved), "IdentityAgent"),
    };
    let Some(socket) = socket else {
        return (Finding::skipped("ssh-agent", format!("none: {place} is not set")), false);
    };
    let shown = socket.display();
    match agent(&socket).await {
        Agent::Keys(keys) if keys.is_empty() => {
            (Finding::ok("ssh-agent", format!("{shown} answers, and has no keys")), false)
        }
        Agent::Keys(keys) => {
            let what = match keys.len() {
                1 => format!("{shown} has 1 key"),
                many => format!("{shown} has {many} keys"),
            };
            let finding = match keys.len() > MOST_TRIES && !resolved.identities_only {
                false => Finding::ok("ssh-agent", what),
                true => Finding::warning("ssh-agent", what)
                    .why("ssh offers them all, and a server hears no more than six (MaxAuthTries)")
                    .todo("name the key: identity_file in [hosts.NAME], or IdentityFile and IdentitiesOnly yes in \
                          ssh_config"),
            };
            (finding, true)
        }
        Agent::Silent(why) => {
            let finding = Finding::warning("ssh-agent", format!("{shown} does not answer")).why(why).todo(
                "start one (`eval \"$(ssh-agent)\"`, then ssh-add), or unset SSH_AUTH_SOCK; in an old tmux it may be \
                 the path of an earlier login",
            );
            (finding, false)
        }
        Agent::NotAsked => {
            (Finding::skipped("ssh-agent", format!("{shown}; there is no ssh-add to ask it")), true)
        }
    }
}

async fn known_hosts(resolved: &Resolved, pool: &Pool) -> Finding {
    let known_as = &resolved.destination.known_as;
    let files: Vec<PathBuf> = resolved
        .known_hosts
        .iter()
        .filter_map(|file| expanded(&file.to_string_lossy(), resolved))
        .filter(|file| file.is_file())
        .collect();
    let mut asked = false;
    let (mut revoked, mut signed) = (None, None);
    for file in &files {
        if let Some(known) = known_keys(known_as, file, pool.config().connect_timeout).await {
            asked = true;
            let shown = file.display();
            if !known.keys.is_empty() {
                let what = format!("{shown} knows {known_as} ({})", known.keys.join(", "));
                return Finding::ok("known_hosts", what);
            }
            if !known.authorities.is_empty() {
                signed.get_or_insert(format!(
                    "{shown} knows who signs for {known_as} (@cert-authority)"
                ));
            }
            if !known.revoked.is_empty() {
                let keys = known.revoked.join(", ");
                revoked.get_or_insert(format!(
                    "{shown} marks a key of {known_as} as revoked ({keys})"
                ));
            }
        }
    }
    if let Some(what) = signed {
        return Finding::ok("known_hosts", what);
    }
    if let Some(what) = revoked {
        return Finding::warning("known_hosts", what)
            .why("who has that key may be somebody else, and no other key of the host is known")
            .todo("find out which key the server has now; one that was revoked is to be replaced there");
    }
    if !files.is_empty() && !asked {
        return Finding::skipped("known_hosts", "there is no ssh-keygen to ask them");
    }
    match resolved.strict.as_str() {
        "yes" | "true" => Finding::warning("known_hosts", format!("{known_as} is not known"))
            .why("StrictHostKeyChecking is yes: ssh connects to known hosts only, unless they have a certificate")
            .todo(advice::learn_the_key(resolved)),
        "no" | "off" | "false" => {
            Finding::warning("known_hosts", format!("{known_as} is not known, and any key is taken"))
                .why("StrictHostKeyChecking is no: whoever answers may be somebody else")
                .todo("let StrictHostKeyChecking be accept-new")
        }
        // Said, or ssh's default, which is accept-new with us.
        "ask" => Finding::ok(
            "known_hosts",
            format!("{known_as} is not known yet: accepted now, unless the configuration itself says ask"),
        ),
        _ => Finding::ok("known_hosts", format!("{known_as} is not known yet: accepted now (accept-new)")),
    }
}

async fn name(resolved: &Resolved, pool: &Pool) -> Finding {
    let to = &resolved.destination;
    if to.proxy.is_some() {
        return Finding::skipped("name", "the proxy looks it up");
    }
    if to.hostname.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok()) {
        return Finding::ok("name", format!("{} is an address", to.hostname));
    }
    let started = Instant::now();
    let limit = pool.config().connect_timeout;
    let found = timeout(limit, lookup_host((to.hostname.as_str(), to.port))).await;
    let failed = |why: String| {
        Finding::failed("name", format!("{} is not resolved", to.hostname))
            .why(why)
            .todo(advice::NAME)
            .took(started.elapsed())
    };
    match found {
        Ok(Ok(addresses)) => {
            let wanted = |address: &IpAddr| match resolved.address_family.as_str() {
                "inet" => address.is_ipv4(),
                "inet6" => address.is_ipv6(),
                _ => true,
            };
            let mut list: Vec<String> = Vec::new();
            for address in addresses.map(|address| address.ip()).filter(wanted) {
                let address = address.to_string();
                if !list.contains(&address) {
                    list.push(address);
                }
            }
            match list.is_empty() {
                true => failed(format!(
                    "it has no address of AddressFamily {}",
                    resolved.address_family
                )),
                false => Finding::ok("name", format!("{}: {}", to.hostname, list.join(", ")))
                    .took(started.elapsed()),
            }
        }
        // Which function has failed is of no interest.
        Ok(Err(error)) => {
            failed(plain(&error).replace("failed to lookup address information: ", ""))
        }
        Err(_) => failed(format!("no answer within {limit:?}")),
    }
}
