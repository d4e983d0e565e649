//! Many hosts at once, so many at a time.
//!
//! [`on_each`] waits for all answers, [`Each`] gives them as they come, and [`Fleet`] is one
//! command on many hosts over that.

mod commands;
mod each;

use std::num::NonZeroUsize;

use futures_util::{StreamExt, stream};

use crate::host::Host;

pub use commands::{Fleet, Outcome, Outcomes};
pub use each::Each;

/// Asks every host, at most `width` of them at a time, and gives the answers in the order of the
/// hosts. The error of one host is in its place and does not stop the others.
///
/// ```no_run
/// use sshpool::docker::Compose;
/// # async fn example(pool: &sshpool::Pool, hosts: &[sshpool::Host]) {
/// let width = 16.try_into().expect("not 0");
/// let list = |host| async move { Compose::new(pool, host).list_projects(true).await };
/// for (host, answer) in hosts.iter().zip(sshpool::on_each(hosts, width, list).await) {
///     match answer {
///         Ok(projects) => println!("{}: {} projects", host.name(), projects.len()),
///         Err(error) => println!("{error}"),
///     }
/// }
/// # }
/// ```
///
/// # Cancel safety
///
/// Dropping the future drops those of the hosts that have not answered.
pub async fn on_each<'a, T, F: Future<Output = T>>(
    hosts: &'a [Host],
    width: NonZeroUsize,
    ask: impl Fn(&'a Host) -> F,
) -> Vec<T> {
    let numbered = async |place: usize, asked: F| (place, asked.await);
    let asked: Vec<_> =
        hosts.iter().enumerate().map(|(place, host)| numbered(place, ask(host))).collect();
    // In the order of their ends, so that a slow host does not keep the next ones waiting.
    let mut answers: Vec<_> = stream::iter(asked).buffer_unordered(width.get()).collect().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_have_the_order_of_the_hosts_and_no_more_than_the_width_are_asked_at_once() {
        let hosts: Vec<Host> =
            (0..20).map(|n| Host::new(format!("web{n}")).expect("a name")).collect();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (now, most) = (&now, &most);
        let answers = on_each(&hosts, NonZeroUsize::new(3).expect("not 0"), |host| async move {
            most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
            let number: u64 = host.name()[3..].parse().expect("a number");
            // The first one is the slowest by far, and the others need not wait for it.
            tokio::time::sleep(Duration::from_secs(if number == 0 { 100 } else { 1 })).await;
            now.fetch_sub(1, Relaxed);
            if number == 7 { Err(number) } else { Ok(number) }
        });
        let started = tokio::time::Instant::now();
        let answers = answers.await;
        assert_eq!(started.elapsed().as_secs(), 100);
        assert_eq!(most.load(Relaxed), 3);
        let expected: Vec<_> = (0..20).map(|n| if n == 7 { Err(n) } else { Ok(n) }).collect();
        assert_eq!(answers, expected);
    }

    #[tokio::test]
    async fn it_can_run_in_a_task_of_its_own() {
        let hosts = vec![Host::new("web1").expect("a name")];
        let task = tokio::spawn(async move {
            on_each(&hosts, NonZeroUsize::MIN, |host| async move {
                tokio::task::yield_now().await;
                host.name().len()
            })
            .await
        });
        assert_eq!(task.await.expect("no panic"), [4]);
    }
}
