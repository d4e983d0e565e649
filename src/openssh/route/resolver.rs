//! Asks ssh for the route, and works out what the login depends on.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Route;
use super::kept::{Asked, Kept, MOST, Read, State};
use super::place::{
    asks_by_program, config_file, expand_home, mentioned, mentioned_and_set, mentions,
    runs_programs, set_environment,
};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::place::{Counts, Environment, Needs, Part, Place, Sharing, TABLE, lasting};
use crate::host::{Endpoint, Host, Variables};
use crate::openssh::answer::Answer;
use crate::openssh::launch::Launch;
use crate::openssh::{args, resolve};
use crate::transport::NotResolved;

/// A chain of hops is not longer. One that has no end is found out by this, and ssh is not started.
const MOST_HOPS: usize = 16;
/// How long a name is looked up, to count failed logins by address and not by name.
const LOOKUP: Duration = Duration::from_millis(300);

/// What has been read and answered, for all pools of a process.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    /// A std mutex: held for a look, never across an await.
    state: Mutex<State>,
}

impl Resolver {
    /// The way to this host for a caller in this place.
    pub(in crate::openssh) async fn route(
        &self,
        host: &Host,
        place: &Place,
        launch: &Launch<'_>,
    ) -> Result<Route, NotResolved> {
        let mut needs = Needs::default();
        let config_file = config_file(host, place);
        let read = self.read(config_file.as_deref(), place, &mut needs)?;
        let reading = &read.reading;
        // A program of a `Match exec` sees everything.
        if runs_programs(reading) {
            place.whole(&mut needs);
        }
        for name in mentioned(host, reading) {
            place.variable(&name, &mut needs);
        }
        if !needs.is_empty() {
            return Err(NotResolved::Needs(needs));
        }
        // The address of a host does not decide which connections it shares.
        let named = host.without_address();
        let question =
            Question { host: &named, place, read: &read, config_file: config_file.as_deref() };
        let answer =
            self.ask(args::resolve(&named, config_file.as_deref()), &question, launch).await?;
        let hops = self.hops(&answer, &question, launch).await?;
        let all: Vec<&Arc<Answer>> = std::iter::once(&answer).chain(&hops).collect();
        let runs_a_program = all.iter().any(|answer| answer.runs_a_program());
        let asks = asks_by_program(place) && !answer.is_batch();

        // What ssh finds in its environment, and what of that counts.
        let mut environment = Environment::new();
        let mut parts = vec![Part::Ssh(launch.program.path().to_owned())];
        parts.extend(all.iter().map(|answer| Part::Answer(answer.text())));
        let mut count = |name: OsString, value: Option<OsString>| {
            if let Some(value) = &value {
                environment.insert(name.clone(), value.clone());
            }
            parts.push(Part::Variable(name, value));
        };
        for (pattern, counts) in TABLE {
            let does_count = match counts {
                Counts::Always => true,
                Counts::Gssapi => all.iter().any(|answer| answer.has_gssapi()),
                Counts::Shell => all.iter().any(|answer| answer.has_proxy()),
                Counts::Askpass => asks,
                Counts::Keys | Counts::Sessions | Counts::Mentioned => false,
            };
            if does_count {
                let set = place.matching(&[(*pattern).to_owned()], &mut needs);
                set.into_iter().for_each(|(name, value)| count(name, Some(value)));
            }
        }
        let names: BTreeSet<&str> = all.iter().flat_map(|answer| answer.variables()).collect();
        for name in names {
            let value = place.variable(name.as_ref(), &mut needs);
            count(name.into(), value);
        }
        let absolute = |name: &str| {
            let value = place.variable(name.as_ref(), &mut Needs::default());
            value.map(|value| value.to_string_lossy().into_owned())
        };
        let is_relative = all.iter().any(|answer| answer.has_relative_path(absolute));
        let directory_counts = is_relative || runs_a_program || asks;
        if directory_counts {
            parts.push(Part::Directory(place.directory.clone()));
        }
        if runs_a_program || asks {
            let whole = place.whole(&mut needs);
            parts.push(Part::Environment(lasting(&whole)));
            environment = whole;
        }
        // The answer has its part in it; a master reads the files once more.
        environment.extend(mentioned_and_set(host, place, reading));
        if runs_programs(reading) {
            environment = place.whole(&mut needs);
        }
        let variables = place.matching(&answer.send, &mut needs);
        if !needs.is_empty() {
            return Err(NotResolved::Needs(needs));
        }

        // The keys that ssh-agents hold.
        let auth_sock =
            place.variable("SSH_AUTH_SOCK".as_ref(), &mut needs).filter(|path| !path.is_empty());
        let uses_it = all.iter().any(|answer| answer.uses_auth_sock());
        let itself_counts = all.iter().any(|answer| answer.forwards_agent() || answer.adds_keys());
        let mut compared = None;
        if uses_it || itself_counts {
            if let Some(path) = &auth_sock {
                environment.insert("SSH_AUTH_SOCK".into(), path.clone());
            }
            parts.push(match &auth_sock {
                Some(path) if !itself_counts => {
                    let path = place.path(Path::new(path));
                    let part = self.keys_behind(&path, false).await;
                    compared = Some(path);
                    part
                }
                // No agent, so no keys.
                None if !itself_counts => Part::Keys(Arc::default()),
                other => Part::Variable("SSH_AUTH_SOCK".into(), other.clone()),
            });
        }
        let endpoint = Arc::new(self.endpoint(host, &answer).await);
        // An ssh that was built with another path may read a system file that was not read here.
        let is_the_systems = config_file.is_some()
            || ["/usr/bin/ssh", "/bin/ssh"].map(Path::new).contains(&launch.program.path());
        let says = |keywords: &[&str]| !is_the_systems || mentions(host, reading, keywords);
        let tilde = |path: &str| place.path(&expand_home(path));
        let agent = answer.identity_agent().map(&tilde);
        let mut key_files: Vec<PathBuf> =
            reading.files().iter().map(|file| file.path().to_owned()).collect();
        key_files.extend(answer.keys().map(tilde));
        Ok(Route {
            program: Arc::clone(launch.program),
            mentions_host_keys: says(&["stricthostkeychecking"]),
            has_final: reading
                .match_criteria()
                .iter()
                .any(|word| word == "final" || word == "canonical"),
            mentions_keepalive: says(&["serveraliveinterval", "serveralivecountmax"]),
            keys: key_files,
            known_hosts: answer.known_hosts().map(tilde).collect(),
            auth_sock: agent.or_else(|| auth_sock.map(|path| place.path(Path::new(&path)))),
            environment: (!place.is_own()).then_some(environment),
            directory: place
                .directory
                .clone()
                .filter(|_| directory_counts || reading.needs_asking()),
            config_file,
            hop: None,
            allows: answer.allows(),
            answer,
            asks,
            compared,
            sharing: Sharing::new(parts),
            endpoint,
            variables: Arc::new(Variables(variables)),
        })
    }

    /// The same way, after the ssh-agent was asked again what it holds, as it is before a login.
    pub(in crate::openssh) async fn refreshed(&self, route: Arc<Route>) -> Arc<Route> {
        let Some(path) = &route.compared else { return route };
        let part = self.keys_behind(path, true).await;
        match route.sharing.with_last(part) {
            Some(sharing) => Arc::new(Route { sharing, ..Route::clone(&route) }),
            None => route,
        }
    }

    /// What ssh answers, or has answered before where that still holds.
    async fn ask(
        &self,
        arguments: Vec<OsString>,
        question: &Question<'_>,
        launch: &Launch<'_>,
    ) -> Result<Arc<Answer>, NotResolved> {
        if question.read.reading.needs_asking() {
            return Ok(Arc::new(ask(&arguments, question, launch).await?));
        }
        let mut needs = Needs::default();
        let names = mentioned(question.host, &question.read.reading);
        let variables = names.into_iter().map(|name| {
            let value = question.place.variable(&name, &mut needs);
            (name, value)
        });
        let asked = Asked {
            program: launch.program.path().to_owned(),
            variables: variables.collect(),
            reading: question.read.number,
            arguments,
        };
        let cell = {
            let (mut state, now) = (self.lock(), Instant::now());
            if state.answers.len() >= MOST {
                state.forget();
            }
            let kept = state
                .answers
                .entry(asked.clone())
                .or_insert_with(|| Kept { value: Arc::default(), used: now });
            kept.used = now;
            Arc::clone(&kept.value)
        };
        let answer = cell.get_or_try_init(async || {
            let answer = ask(&asked.arguments, question, launch).await?;
            Ok::<_, ConnectError>(Arc::new(answer))
        });
        Ok(Arc::clone(answer.await?))
    }

    /// ssh's answers for the jump hosts. ssh starts itself for each of them.
    async fn hops(
        &self,
        answer: &Answer,
        question: &Question<'_>,
        launch: &Launch<'_>,
    ) -> Result<Vec<Arc<Answer>>, NotResolved> {
        let mut hops = Vec::new();
        // The last hop of a list is reached over those before it; the first one in its own way.
        let mut list: Vec<String> = answer.hops().into_iter().map(str::to_owned).collect();
        while let Some(last) = list.pop() {
            if hops.len() >= MOST_HOPS {
                return Err(NotResolved::Failed(ConnectError::new(
                    ConnectErrorKind::BadOption,
                    format!("ProxyJump {last}: the way has more than {MOST_HOPS} hops, or no end"),
                    Vec::new(),
                )));
            }
            let arguments = args::resolve_hop(&last, &list, question.config_file);
            let hop = self.ask(arguments, question, launch).await?;
            if list.is_empty() {
                list = hop.hops().into_iter().map(str::to_owned).collect();
            }
            hops.push(hop);
        }
        Ok(hops)
    }

    /// The account that a login goes to. A name is counted by its address where that is known soon.
    async fn endpoint(&self, host: &Host, answer: &Answer) -> Endpoint {
        let (user, name, port) = answer.destination().unwrap_or(("", host.name(), 22));
        let name = host.get_address().unwrap_or(name);
        let (user, name) = (user.to_owned(), name.to_ascii_lowercase());
        if answer.has_proxy() || name.parse::<std::net::IpAddr>().is_ok() {
            return Endpoint { user, address: name, port };
        }
        let (key, now) = ((name.clone(), port), Instant::now());
        if let Some(kept) = self.lock().addresses.get_mut(&key) {
            kept.used = now;
            return Endpoint { user, address: kept.value.clone(), port };
        }
        let found = timeout(LOOKUP, tokio::net::lookup_host((name.clone(), port))).await;
        // Of several the least, so that it is the same one each time.
        let address = match found {
            Ok(Ok(found)) => {
                found.map(|address| address.ip()).min().map(|address| address.to_string())
            }
            _ => None,
        };
        let address = address.unwrap_or(name);
        let mut state = self.lock();
        if state.addresses.len() >= MOST {
            state.forget();
        }
        state.addresses.insert(key, Kept { value: address.clone(), used: now });
        Endpoint { user, address, port }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below panics half-way through a change.
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// What is asked of ssh, and where.
struct Question<'a> {
    host: &'a Host,
    place: &'a Place,
    read: &'a Read,
    config_file: Option<&'a Path>,
}

/// `ssh -G` in the caller's place.
async fn ask(
    arguments: &[OsString],
    question: &Question<'_>,
    launch: &Launch<'_>,
) -> Result<Answer, ConnectError> {
    let Question { host, place, read, .. } = question;
    let is_asked_each_time = read.reading.needs_asking();
    let finished = resolve::ask(launch, arguments.to_vec(), |command| {
        match &place.given {
            Some(given) if is_asked_each_time => set_environment(command, &given.variables),
            Some(_) => set_environment(command, &mentioned_and_set(host, place, &read.reading)),
            None => {}
        }
        if let Some(directory) = place.directory.as_ref().filter(|_| is_asked_each_time) {
            command.current_dir(directory);
        }
    });
    resolve::answered(&finished.await?)
}
