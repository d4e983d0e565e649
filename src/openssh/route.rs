//! Routes: how a login goes, as ssh says it in the caller's place, and what it depends on.
//!
//! The [`Resolver`] asks `ssh -G` in the caller's place and keeps the answer for as long as nothing
//! changes that it was made from: the configuration with all files that it includes, and the
//! variables that these mention. Where the configuration has ssh look at more than that (`Match
//! exec` and the like), ssh is asked for each command. From the answer it works out what else a
//! login depends on, which is what callers have to have in common to share a connection
//! ([`Sharing`]).

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use super::answer::Answer;
use super::config::{self, Reading};
use super::master::Launch;
use super::program::Program;
use super::{args, keys, resolve};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::place::{Counts, Environment, Needs, Part, Place, Sharing, TABLE, lasting};
use crate::host::{Endpoint, Host, Variables};
use crate::transport::NotResolved as NoRoute;

/// How a login goes.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(super) program: Arc<Program>,
    /// The ssh_config that was named, as an absolute path.
    pub(super) config_file: Option<PathBuf>,
    pub(super) answer: Arc<Answer>,
    /// What ssh finds in its environment. `None` for the environment of this process.
    pub(super) environment: Option<Environment>,
    /// Where ssh is started, if that makes a difference to a login.
    pub(super) directory: Option<PathBuf>,
    /// ssh asks by a program of the caller's.
    pub(super) asks: bool,
    /// The configuration says something of unknown host keys, somewhere.
    pub(super) mentions_host_keys: bool,
    /// The configuration says something of keepalive messages, somewhere.
    pub(super) mentions_keepalive: bool,
    /// The configuration has blocks that are read last.
    pub(super) has_final: bool,
    /// Files that decide whether an authentication succeeds.
    pub(super) keys: Vec<PathBuf>,
    /// Files that decide whether the server is the right one.
    pub(super) known_hosts: Vec<PathBuf>,
    /// The ssh-agent that is asked for keys.
    pub(super) auth_sock: Option<PathBuf>,
    /// The ssh-agent whose keys are the last part of `sharing`.
    compared: Option<PathBuf>,
    pub(crate) sharing: Sharing,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) variables: Arc<Variables>,
    /// What `ConnectTimeout` and `ConnectionAttempts` allow for a login.
    pub(crate) allows: Option<Duration>,
}

impl Route {
    /// Has a process start in the caller's place, as far as that counts.
    pub(super) fn prepare(&self, command: &mut tokio::process::Command) {
        if let Some(environment) = &self.environment {
            set_environment(command, environment);
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
    }
}

/// What has been read and answered, for all pools of a process.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    /// A std mutex: held for a look, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    readings: HashMap<Option<PathBuf>, Vec<Read>>,
    next_reading: u64,
    answers: HashMap<Asked, Kept<Arc<OnceCell<Arc<Answer>>>>>,
    addresses: HashMap<(String, u16), Kept<String>>,
    held: HashMap<PathBuf, Held>,
}

/// The configuration as it was read for callers with these variables.
#[derive(Clone, Debug)]
struct Read {
    number: u64,
    reading: Arc<Reading>,
    used: Instant,
}

/// What an answer of `ssh -G` depends on, where that is not everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    program: PathBuf,
    arguments: Vec<OsString>,
    reading: u64,
    variables: Vec<(OsString, Option<OsString>)>,
}

#[derive(Clone, Debug)]
struct Kept<T> {
    value: T,
    used: Instant,
}

/// What an ssh-agent held when it was asked last.
#[derive(Clone, Debug)]
struct Held {
    /// Device, inode and time of its socket: another agent makes another one.
    socket: (u64, u64, i64, i64),
    keys: Option<Arc<[Vec<u8>]>>,
    used: Instant,
}

/// What nobody has used for so long is forgotten.
const KEPT: Duration = Duration::from_secs(600);
/// And of more than so many the one that was not used for longest.
const MOST: usize = 2048;
/// A chain of hops is not longer. One that has no end is found out by this, and ssh is not started.
const MOST_HOPS: usize = 16;
/// How long a name is looked up, to count failed logins by address and not by name.
const LOOKUP: Duration = Duration::from_millis(300);

impl Resolver {
    /// The way to this host for a caller in this place.
    pub(super) async fn route(
        &self,
        host: &Host,
        place: &Place,
        launch: &Launch<'_>,
    ) -> Result<Route, NoRoute> {
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
            return Err(NoRoute::Needs(needs));
        }
        // The address that somebody gives a host is not part of what its connections are shared by.
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
            return Err(NoRoute::Needs(needs));
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
                // Nobody's keys.
                None if !itself_counts => Part::Keys(Arc::default()),
                other => Part::Variable("SSH_AUTH_SOCK".into(), other.clone()),
            });
        }
        let endpoint = Arc::new(self.endpoint(host, &answer).await);
        // An ssh that was built for another place may read a file of the system's that nobody has
        // looked at.
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
    pub(super) async fn refreshed(&self, route: Arc<Route>) -> Arc<Route> {
        let Some(path) = &route.compared else { return route };
        let part = self.keys_behind(path, true).await;
        match route.sharing.with_last(part) {
            Some(sharing) => Arc::new(Route { sharing, ..Route::clone(&route) }),
            None => route,
        }
    }

    /// What callers with the ssh-agent behind this socket have in common: its keys, or the socket
    /// where it does not tell.
    async fn keys_behind(&self, path: &Path, fresh: bool) -> Part {
        match self.held(path, fresh).await {
            Some(keys) => Part::Keys(keys),
            None => Part::Variable("SSH_AUTH_SOCK".into(), Some(path.into())),
        }
    }

    /// The configuration that counts in this place, read again where something in it has changed.
    fn read(&self, file: Option<&Path>, place: &Place, needs: &mut Needs) -> Result<Read, NoRoute> {
        let now = Instant::now();
        let key = file.map(Path::to_owned);
        let known: Vec<Read> = self.lock().readings.get(&key).cloned().unwrap_or_default();
        let looked_up = std::cell::RefCell::new(Needs::default());
        let variable = |name: &OsStr| place.variable(name, &mut looked_up.borrow_mut());
        if let Some(read) = known.into_iter().find(|read| read.reading.fits(&variable))
            && read.reading.is_current()
        {
            // Variables that its files are chosen by have to be known of this place, too.
            *needs = looked_up.into_inner();
            if !needs.is_empty() {
                return Err(NoRoute::Needs(std::mem::take(needs)));
            }
            let mut state = self.lock();
            let kept = state.readings.get_mut(&key).into_iter().flatten();
            kept.filter(|kept| kept.number == read.number).for_each(|kept| kept.used = now);
            return Ok(read);
        }
        *looked_up.borrow_mut() = Needs::default();
        let source = config::Source::of(file);
        let directory = place.directory.as_deref().unwrap_or(Path::new("/"));
        let reading = Arc::new(config::read(
            source,
            directory,
            &config::home().unwrap_or_default(),
            &variable,
        ));
        let missed = looked_up.borrow().clone();
        if !missed.is_empty() {
            return Err(NoRoute::Needs(missed));
        }
        let mut state = self.lock();
        state.next_reading += 1;
        let read = Read { number: state.next_reading, reading, used: now };
        let others = state.readings.entry(key).or_default();
        others.retain(|other| !other.reading.fits(&variable) && now - other.used < KEPT);
        if others.len() >= 16 {
            others.remove(0);
        }
        others.push(read.clone());
        Ok(read)
    }

    /// What ssh answers, or has answered before where that still holds.
    async fn ask(
        &self,
        arguments: Vec<OsString>,
        question: &Question<'_>,
        launch: &Launch<'_>,
    ) -> Result<Arc<Answer>, NoRoute> {
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

    /// What ssh answers for the hops on the way, which it goes by starting itself.
    async fn hops(
        &self,
        answer: &Answer,
        question: &Question<'_>,
        launch: &Launch<'_>,
    ) -> Result<Vec<Arc<Answer>>, NoRoute> {
        let mut hops = Vec::new();
        // The last hop of a list is reached over those before it; the first one in its own way.
        let mut list: Vec<String> = answer.hops().into_iter().map(str::to_owned).collect();
        while let Some(last) = list.pop() {
            if hops.len() >= MOST_HOPS {
                return Err(NoRoute::Failed(ConnectError::new(
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

    /// The keys that the ssh-agent behind this socket holds, as it said when the socket was first
    /// seen or before the last login.
    async fn held(&self, path: &Path, fresh: bool) -> Option<Arc<[Vec<u8>]>> {
        let found = std::fs::metadata(path).ok()?;
        let socket = (found.dev(), found.ino(), found.ctime(), found.ctime_nsec());
        let now = Instant::now();
        if !fresh
            && let Some(held) = self.lock().held.get_mut(path)
            && held.socket == socket
        {
            held.used = now;
            return held.keys.clone();
        }
        let keys = keys::listed(path.as_os_str()).await.ok().map(|mut keys| {
            keys.sort();
            Arc::from(keys)
        });
        let mut state = self.lock();
        if state.held.len() >= MOST {
            state.forget();
        }
        state.held.insert(path.to_owned(), Held { socket, keys: Option::clone(&keys), used: now });
        keys
    }

    /// Forgets what nobody has used for long.
    pub(crate) fn sweep(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        state.answers.retain(|_, kept| now - kept.used < KEPT);
        state.addresses.retain(|_, kept| now - kept.used < KEPT);
        state.held.retain(|_, held| now - held.used < KEPT);
        state.readings.retain(|_, readings| {
            readings.retain(|read| now - read.used < KEPT);
            !readings.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below panics half-way through a change.
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl State {
    /// Makes room: what was not used for longest goes.
    fn forget(&mut self) {
        fn half<K: Clone + Eq + std::hash::Hash, V>(
            map: &mut HashMap<K, V>,
            used: impl Fn(&V) -> Instant,
        ) {
            let mut times: Vec<Instant> = map.values().map(&used).collect();
            times.sort_unstable();
            let Some(&middle) = times.get(times.len() / 2) else { return };
            map.retain(|_, value| used(value) > middle);
        }
        if self.answers.len() >= MOST {
            half(&mut self.answers, |kept| kept.used);
        }
        if self.addresses.len() >= MOST {
            half(&mut self.addresses, |kept| kept.used);
        }
        if self.held.len() >= MOST {
            half(&mut self.held, |held| held.used);
        }
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

/// Gives a process this environment and that of the agent, which is small and nobody's.
pub(super) fn set_environment(command: &mut tokio::process::Command, environment: &Environment) {
    // A clean slate first: what this process was given is for nobody else.
    command.env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| !environment.contains_key(name)));
    command.envs(environment);
}

/// Those of the variables that are mentioned that are set in this place.
fn mentioned_and_set(host: &Host, place: &Place, reading: &Reading) -> Environment {
    let mut needs = Needs::default();
    let names = mentioned(host, reading).into_iter();
    names.filter_map(|name| Some((name.clone(), place.variable(&name, &mut needs)?))).collect()
}

/// The variables that the configuration, or what the host says, has ssh look at.
fn mentioned(host: &Host, reading: &Reading) -> BTreeSet<OsString> {
    let mut names = reading.variables().clone();
    let options = host.get_options().map(|(_, value)| value.to_owned());
    let file = host.get_identity_file().map(|path| path.to_string_lossy().into_owned());
    for text in options.chain(file) {
        let mut rest = text.as_str();
        while let Some((_, behind)) = rest.split_once("${") {
            let (name, after) = behind.split_once('}').unwrap_or((behind, ""));
            names.insert(name.into());
            rest = after;
        }
        if let Some(name) = text.strip_prefix('$').filter(|name| !name.starts_with('{')) {
            names.insert(name.into());
        }
    }
    names
}

fn mentions(host: &Host, reading: &Reading, keywords: &[&str]) -> bool {
    let is_said =
        |keyword: &&str| host.get_options().any(|(option, _)| option.eq_ignore_ascii_case(keyword));
    keywords.iter().any(is_said) || reading.may_set(keywords)
}

/// Whether ssh runs programs to find out what counts, or may: these see the whole environment.
fn runs_programs(reading: &Reading) -> bool {
    const NONE: &[&str] = &["localnetwork", "sessiontype", "command", "version"];
    let is_none = |criterion: &String| {
        NONE.contains(&criterion.as_str()) || config::is_the_same_everywhere(criterion)
    };
    !reading.unclear().is_empty() || !reading.match_criteria().iter().all(is_none)
}

/// Whether ssh would ask by a program: where it is told to, or where there is a display and no
/// terminal.
fn asks_by_program(place: &Place) -> bool {
    let variable = |name: &str| place.variable(name.as_ref(), &mut Needs::default());
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let has_program = is_set("SSH_ASKPASS") || Path::new("/usr/bin/ssh-askpass").exists();
    match variable("SSH_ASKPASS_REQUIRE").as_deref().and_then(OsStr::to_str) {
        Some("force") => has_program,
        Some("never") => false,
        Some("prefer") => has_program && is_set("DISPLAY"),
        _ => has_program && is_set("DISPLAY") && !place.terminal && !place.is_own(),
    }
}

fn config_file(host: &Host, place: &Place) -> Option<PathBuf> {
    let file = host.get_config_file()?;
    Some(if file == Path::new("none") { file.to_owned() } else { place.path(file) })
}

fn expand_home(path: &str) -> PathBuf {
    let path = path.trim_matches('"');
    match path.strip_prefix("~/").or_else(|| path.strip_prefix("%d/")) {
        Some(rest) => config::home().unwrap_or_default().join(rest),
        None => PathBuf::from(path),
    }
}
