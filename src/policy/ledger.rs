//! Failed logins, counted for each account: whatever identities, hosts and pools they came from, a
//! server sees at most four of an account in any ten minutes. Programs that ban addresses for
//! failed logins begin at five.
//!
//! A login takes one of the four places before it begins, and gives it back unless it fails in a
//! way that counts. So logins that are under way together cannot go beyond the four either. A
//! connection on which nothing has run yet, not even an echo, keeps its place for a while: a server
//! that takes logins and drops them is to be left alone, too.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::host::{Endpoint, Host, PoolKey};

/// Failed logins of an account, at most, in any [`WINDOW`].
pub(crate) const MOST: usize = 4;
pub(crate) const WINDOW: Duration = Duration::from_secs(600);
/// So long a server that had too many logins at once gets fewer.
pub(crate) const BUSY: Duration = Duration::from_secs(60);
/// With so many accounts, each new one makes the ledger forget those without failures and logins.
const MANY: usize = 64;
/// Keys that are remembered for one account.
const MOST_KEYS: usize = 64;

/// The account of a login: user and server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    /// As `ssh -G` says.
    Resolved(Arc<Endpoint>),
    /// ssh was not asked: the key and the user that the host names.
    Named(PoolKey, Option<String>),
}

impl Account {
    pub(crate) fn of(host: &Host) -> Self {
        match &host.login().endpoint {
            Some(endpoint) => Account::Resolved(Arc::clone(endpoint)),
            None => Account::Named(host.key(), host.get_user().map(str::to_owned)),
        }
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Account::Resolved(endpoint) => endpoint.fmt(f),
            Account::Named(key, Some(user)) => write!(f, "{user}@{key}"),
            Account::Named(key, None) => key.fmt(f),
        }
    }
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// The login was refused, here or there.
    Refused,
    /// The server closed the connection after the login, and nothing had run on it.
    Dropped,
}

/// What is woken when there may be a place for a login again.
pub(crate) trait Wake: Send + Sync {
    fn wake(self: Arc<Self>);
}

/// The failed logins of all accounts. Pools that share one count together.
#[derive(Default)]
pub(crate) struct Ledger {
    /// A std mutex: held for a look, and nothing else is locked meanwhile.
    accounts: Mutex<HashMap<Account, Record>>,
    /// Some of the failures may be [`Sort::Dropped`]: only then it matters what has run.
    has_dropped: AtomicBool,
    /// A server had too many logins at once, ever.
    has_crowded: AtomicBool,
}

#[derive(Default)]
struct Record {
    /// When they were known, the oldest first.
    failures: VecDeque<(Instant, Sort)>,
    /// Logins under way.
    taken: usize,
    /// Of these, those that the server has not let in yet.
    outside: usize,
    /// So many at once were too many for the server, and when it said so.
    too_many: Option<(usize, Instant)>,
    /// Under which keys logins were tried or wanted.
    keys: Vec<PoolKey>,
    waiting: Vec<std::sync::Weak<dyn Wake>>,
}

impl Record {
    /// Forgets failures that are too old to count.
    fn look(&mut self, now: Instant) {
        while self.failures.front().is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.failures.pop_front();
        }
    }

    /// How many logins may be outside at once.
    fn most(&self, now: Instant) -> usize {
        match self.too_many {
            Some((count, at)) if at + BUSY > now => (count - 1).clamp(1, MOST),
            _ => MOST,
        }
    }

    /// There were too many at once for the server, not long ago.
    fn is_crowded(&self, now: Instant) -> bool {
        self.too_many.is_some_and(|(_, at)| at + BUSY > now)
    }

    fn used_up(&mut self, now: Instant) -> Option<UsedUp> {
        self.look(now);
        let oldest = self.failures.len().checked_sub(MOST)?;
        Some(UsedUp { until: self.failures[oldest].0 + WINDOW, last: self.failures.back()?.0 })
    }

    fn knows(&mut self, key: &PoolKey) {
        if !self.keys.contains(key) && self.keys.len() < MOST_KEYS {
            self.keys.push(key.clone());
        }
    }
}

/// An account's failed logins are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedUp {
    /// Nothing may be tried until then.
    pub until: Instant,
    /// When the last one failed.
    pub last: Instant,
}

/// Whether a login may begin.
pub(crate) enum Answer {
    Begin(Place),
    /// Other logins are under way and may fail. The one that asked is woken.
    Wait,
    /// The four are used up. The one that asked is woken when they are forgotten.
    UsedUp(UsedUp),
}

impl Ledger {
    /// Takes a place for a login. Without one, `waits` is woken when there may be a place.
    pub(crate) fn begin(
        self: &Arc<Self>,
        account: &Account,
        key: &PoolKey,
        now: Instant,
        waits: &std::sync::Weak<dyn Wake>,
    ) -> Answer {
        let mut accounts = self.lock();
        if accounts.len() >= MANY && !accounts.contains_key(account) {
            accounts.retain(|_, record| {
                record.look(now);
                record.waiting.retain(|waits| waits.strong_count() > 0);
                record.taken > 0 || !record.failures.is_empty() || !record.waiting.is_empty()
            });
        }
        let record = accounts.entry(account.clone()).or_default();
        record.knows(key);
        let used_up = record.used_up(now);
        if used_up.is_none()
            && record.failures.len() + record.taken < MOST
            && record.outside < record.most(now)
        {
            record.taken += 1;
            record.outside += 1;
            return Answer::Begin(Place {
                ledger: Arc::clone(self),
                account: Some(account.clone()),
                outside: true,
            });
        }
        if !record.waiting.iter().any(|other| other.ptr_eq(waits)) {
            record.waiting.push(waits.clone());
        }
        used_up.map_or(Answer::Wait, Answer::UsedUp)
    }

    /// Whether the account's failed logins are used up. The caller wants a login, so the account is
    /// also known by this key from now on.
    pub(crate) fn used_up(&self, account: &Account, key: &PoolKey, now: Instant) -> Option<UsedUp> {
        let mut accounts = self.lock();
        let record = accounts.get_mut(account)?;
        record.knows(key);
        record.used_up(now)
    }

    /// Whether the server had too many logins of this account at once, not long ago.
    pub(crate) fn is_crowded(&self, account: &Account, now: Instant) -> bool {
        self.has_crowded.load(Ordering::Relaxed)
            && self.lock().get(account).is_some_and(|record| record.is_crowded(now))
    }

    /// Whether it matters that something has run.
    pub(crate) fn has_dropped(&self) -> bool {
        self.has_dropped.load(Ordering::Relaxed)
    }

    /// A session of this account has run: what was dropped before was no refusal.
    pub(crate) fn ran(&self, account: &Account) {
        let is_dropped = |(_, sort): &(Instant, Sort)| *sort == Sort::Dropped;
        let waiting = {
            let mut accounts = self.lock();
            let waiting = accounts.get_mut(account).map(|record| {
                record.failures.retain(|failure| !is_dropped(failure));
                std::mem::take(&mut record.waiting)
            });
            let others = accounts.values().any(|record| record.failures.iter().any(is_dropped));
            self.has_dropped.store(others, Ordering::Relaxed);
            waiting
        };
        wake(waiting.unwrap_or_default());
    }

    /// Forgets the failures of this account and of all accounts that were tried under this key, at
    /// the user's wish to go beyond the four.
    pub(crate) fn forget(&self, account: Option<&Account>, key: &PoolKey) {
        let mut waiting = Vec::new();
        for (of, record) in self.lock().iter_mut() {
            if Some(of) == account || record.keys.contains(key) {
                record.failures.clear();
                waiting.append(&mut record.waiting);
            }
        }
        wake(waiting);
    }

    /// The server has let in a login of this account.
    fn lets_in(&self, account: &Account) {
        let waiting = {
            let mut accounts = self.lock();
            let Some(record) = accounts.get_mut(account) else { return };
            record.outside -= 1;
            std::mem::take(&mut record.waiting)
        };
        wake(waiting);
    }

    fn gives_back(&self, account: &Account, outside: bool, failed: Option<(Instant, Sort)>) {
        let waiting = {
            let mut accounts = self.lock();
            let Some(record) = accounts.get_mut(account) else { return };
            record.taken -= 1;
            record.outside -= usize::from(outside);
            record.failures.extend(failed);
            if let Some((_, Sort::Dropped)) = failed {
                self.has_dropped.store(true, Ordering::Relaxed);
            }
            std::mem::take(&mut record.waiting)
        };
        wake(waiting);
    }

    /// How many accounts are remembered.
    #[cfg(test)]
    pub(crate) fn accounts(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Account, Record>> {
        // Nothing below panics half-way through a change.
        self.accounts.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("accounts", &self.lock().len()).finish_non_exhaustive()
    }
}

fn wake(waiting: Vec<std::sync::Weak<dyn Wake>>) {
    waiting.into_iter().filter_map(|waits| waits.upgrade()).for_each(Wake::wake);
}

/// One of the four, for a login that is under way. Dropped, it is given back.
pub(crate) struct Place {
    ledger: Arc<Ledger>,
    /// There until it is given back.
    account: Option<Account>,
    /// The server has not let it in yet.
    outside: bool,
}

impl Place {
    /// The server has let it in. What becomes of the connection can count as a failure still.
    pub(crate) fn is_in(&mut self) {
        if let (true, Some(account)) = (std::mem::take(&mut self.outside), &self.account) {
            self.ledger.lets_in(account);
        }
    }

    /// The login has failed in a way that counts.
    pub(crate) fn failed(mut self, sort: Sort, now: Instant) {
        if let Some(account) = self.account.take() {
            self.ledger.gives_back(&account, self.outside, Some((now, sort)));
        }
    }

    /// The server has dropped this login, because it has too many at once.
    pub(crate) fn was_too_many(&self, now: Instant) {
        let mut accounts = self.ledger.lock();
        let record = self.account.as_ref().and_then(|account| accounts.get_mut(account));
        if let Some(record) = record {
            // A single one was dropped for another reason, unless there were others just before.
            let most = record.outside.min(record.most(now));
            if most > 1 || record.is_crowded(now) {
                record.too_many = Some((most, now));
                self.ledger.has_crowded.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(account) = self.account.take() {
            self.ledger.gives_back(&account, self.outside, None);
        }
    }
}
