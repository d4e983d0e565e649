//! The one place where the state of a slot changes, and the statistics with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::KeyState;
use super::slot::{Ready, Retire, SlotState};
use super::tenant::TenantId;
use crate::transport::{Connection, Transport};

/// What happens to a slot.
pub(super) enum Event<C: Connection> {
    /// A login for this tenant begins.
    LoginBegins { tenant: TenantId, retire: Retire },
    /// The login has succeeded. A slot that was closed meanwhile stays closing: its task hears of
    /// that and closes the connection.
    LoginSucceeds { connection: Arc<C>, asked: bool, limit: usize, now: Instant },
    /// The login has failed.
    LoginFails,
    /// The login or the connection is to end, within this patience.
    Retires { patience: Duration, failed_check: bool },
    /// The task of the slot has ended.
    TaskEnds,
}

impl<T: Transport> KeyState<T> {
    pub(super) fn transition(&mut self, slot: usize, event: Event<T::Connection>) {
        let before = std::mem::replace(&mut self.slots[slot], SlotState::Empty);
        let (from, tenant) = (before.phase(), before.tenant());
        let next = match event {
            Event::LoginBegins { tenant, retire } => SlotState::Connecting { tenant, retire },
            Event::LoginSucceeds { connection, asked, limit, now } => {
                self.counters.connects += 1;
                match before {
                    SlotState::Connecting { tenant, retire } => {
                        self.next_generation += 1;
                        let generation = self.next_generation;
                        let mut ready =
                            Ready::new(tenant, connection, generation, retire, limit, now);
                        ready.asked = asked;
                        SlotState::Ready(ready)
                    }
                    other => other,
                }
            }
            Event::LoginFails => {
                self.counters.failed_connects += 1;
                self.discard_standbys_of(before);
                SlotState::Empty
            }
            Event::Retires { patience, failed_check } => {
                self.counters.health_check_failures += u64::from(failed_check);
                self.closing(before, patience)
            }
            Event::TaskEnds => {
                self.discard_standbys_of(before);
                SlotState::Empty
            }
        };
        let to = next.phase();
        if !from.successors().contains(&to) {
            tracing::error!(slot, ?from, ?to, "a slot came to a state that does not follow");
            debug_assert!(false, "slot {slot}: {from:?} is not followed by {to:?}");
        }
        if let SlotState::Empty = next {
            self.quiet.extend(tenant);
        }
        self.slots[slot] = next;
    }

    /// The state of a slot whose task was told to close. It may have been told before.
    fn closing(
        &mut self,
        before: SlotState<T::Connection>,
        patience: Duration,
    ) -> SlotState<T::Connection> {
        let (tenant, retire, number) = match before {
            SlotState::Empty => return SlotState::Empty,
            SlotState::Closing { tenant, retire, number } => (tenant, retire, number),
            SlotState::Connecting { tenant, retire } => (tenant, retire, self.next_closing()),
            SlotState::Ready(ready) => {
                self.discarded.extend(ready.standbys);
                (ready.tenant, ready.retire, self.next_closing())
            }
        };
        // The task is there as long as the slot is not empty. A task that is just ending does not
        // need to be told.
        let _ = retire.send(patience);
        SlotState::Closing { tenant, retire, number }
    }

    fn next_closing(&mut self) -> u64 {
        self.closings += 1;
        self.closings - 1
    }

    /// The state is left without having been closed: the runtime of its task was shut down. Its
    /// sessions in standby are not dropped here, where the state is locked.
    fn discard_standbys_of(&mut self, before: SlotState<T::Connection>) {
        if let SlotState::Ready(ready) = before {
            self.discarded.extend(ready.standbys);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use rstest::rstest;
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::PoolConfig;
    use crate::host::Host;
    use crate::policy::Stats;
    use crate::policy::cell::Cell;
    use crate::policy::ledger::Wake;
    use crate::policy::state::slot::Phase;
    use crate::policy::tests::Fake;

    type Change = fn() -> Event<<Fake as Transport>::Connection>;

    const BEGINS: Change = || Event::LoginBegins { tenant: 7, retire: mpsc::unbounded_channel().0 };
    const FAILS: Change = || Event::LoginFails;
    const RETIRES: Change = || Event::Retires { patience: Duration::ZERO, failed_check: true };
    const ENDS: Change = || Event::TaskEnds;

    fn state() -> KeyState<Fake> {
        let nobody: Weak<dyn Wake> = Weak::<Cell<Fake>>::new();
        let key = Host::new("web1").expect("a valid name").key();
        KeyState::new(key, &PoolConfig::default(), Arc::default(), nobody)
    }

    #[test]
    fn a_transition_changes_the_state_and_the_statistics() {
        let mut state = state();
        let changes: [(Change, Phase); 6] = [
            (BEGINS, Phase::Connecting),
            (FAILS, Phase::Empty),
            (BEGINS, Phase::Connecting),
            (RETIRES, Phase::Closing),
            (RETIRES, Phase::Closing),
            (ENDS, Phase::Empty),
        ];
        for (event, phase) in changes {
            state.transition(0, event());
            assert_eq!(state.slots[0].phase(), phase);
        }
        let expected = Stats { failed_connects: 1, health_check_failures: 2, ..Stats::default() };
        assert_eq!((state.closings(), state.stats()), (1, expected));
        assert_eq!(state.quiet, [7, 7]);
    }

    #[rstest]
    #[case::login_in_a_slot_that_has_one(&[BEGINS, BEGINS])]
    #[case::login_in_a_slot_that_is_closing(&[BEGINS, RETIRES, BEGINS])]
    #[case::failure_without_a_login(&[FAILS])]
    #[case::end_of_nothing(&[ENDS])]
    #[case::closing_of_nothing(&[RETIRES])]
    #[should_panic(expected = "is not followed by")]
    fn a_state_that_does_not_follow_is_noticed(#[case] events: &[Change]) {
        let mut state = state();
        for event in events {
            state.transition(0, event());
        }
    }
}
