//! Answers of many hosts, as they come.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::slice;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

type Asked<'a, H, T> = Pin<Box<dyn Future<Output = (&'a H, T)> + Send + 'a>>;

/// Asks hosts, or whatever has one, at most so many of them at a time, and gives each answer when
/// it is there.
///
/// ```no_run
/// # async fn example(pool: &sshpool::Pool, hosts: &[sshpool::Host]) {
/// let width = 16.try_into().expect("not 0");
/// let mut kernels = sshpool::Each::new(hosts, width, |host| pool.exec(host, "uname -r"));
/// while let Some((host, kernel)) = kernels.next().await {
///     match kernel {
///         Ok(kernel) => println!("{}: {kernel}", host.name()),
///         Err(error) => println!("{error}"),
///     }
/// }
/// # }
/// ```
///
/// Those that are asked go on only while [`next`](Self::next) is awaited. Dropping it drops those
/// that have not answered.
#[must_use = "nothing is asked until next is awaited"]
pub struct Each<'a, H, T> {
    waiting: slice::Iter<'a, H>,
    running: FuturesUnordered<Asked<'a, H, T>>,
    ask: Box<dyn Fn(&'a H) -> Asked<'a, H, T> + Send + 'a>,
    width: NonZeroUsize,
}

impl<'a, H: Sync, T: Send + 'a> Each<'a, H, T> {
    /// Asks no host yet.
    pub fn new<F: Future<Output = T> + Send + 'a>(
        hosts: &'a [H],
        width: NonZeroUsize,
        ask: impl Fn(&'a H) -> F + Send + 'a,
    ) -> Self {
        let ask = Box::new(move |host| {
            let asked = ask(host);
            Box::pin(async move { (host, asked.await) }) as Asked<'a, H, T>
        });
        Each { waiting: hosts.iter(), running: FuturesUnordered::new(), ask, width }
    }

    /// The next host that has answered, in the order in which they do. `None` when there is none
    /// left.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no answer is lost, and the next call goes on.
    pub async fn next(&mut self) -> Option<(&'a H, T)> {
        while self.running.len() < self.width.get()
            && let Some(host) = self.waiting.next()
        {
            self.running.push((self.ask)(host));
        }
        self.running.next().await
    }

    /// Asks no more hosts than have been asked until now, and gives the others.
    pub fn stop(&mut self) -> &'a [H] {
        std::mem::take(&mut self.waiting).as_slice()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use super::*;

    fn width(width: usize) -> NonZeroUsize {
        NonZeroUsize::new(width).expect("not 0")
    }

    #[tokio::test(start_paused = true)]
    async fn answers_come_in_their_own_order_and_no_more_than_the_width_are_asked_at_once() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (now, most) = (&now, &most);
        let seconds: Vec<u64> = vec![9, 1, 3, 1, 1];
        let mut each = Each::new(&seconds, width(2), |seconds| async move {
            most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
            tokio::time::sleep(Duration::from_secs(*seconds)).await;
            now.fetch_sub(1, Relaxed);
            seconds * 2
        });
        let mut answers = Vec::new();
        while let Some((seconds, answer)) = each.next().await {
            answers.push((*seconds, answer));
        }
        assert_eq!(answers, [(1, 2), (3, 6), (1, 2), (1, 2), (9, 18)]);
        assert_eq!(most.load(Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_not_asked_yet_can_be_left_out() {
        let seconds: Vec<u64> = vec![1, 5, 2, 3];
        let mut each = Each::new(&seconds, width(2), |seconds| {
            tokio::time::sleep(Duration::from_secs(*seconds))
        });
        assert_eq!(each.next().await, Some((&1, ())));
        // The place of the one that has answered is given away with the next call only.
        assert_eq!(each.stop(), [2, 3]);
        assert_eq!(each.next().await, Some((&5, ())));
        assert_eq!((each.next().await, each.stop()), (None, &[][..]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_loses_no_answer() {
        let seconds: Vec<u64> = vec![1, 2, 3];
        let mut each = Each::new(&seconds, width(3), |seconds| {
            tokio::time::sleep(Duration::from_secs(*seconds))
        });
        let mut answers = Vec::new();
        loop {
            match tokio::time::timeout(Duration::from_millis(300), each.next()).await {
                Ok(Some((seconds, ()))) => answers.push(*seconds),
                Ok(None) => break,
                Err(_) => {}
            }
        }
        assert_eq!(answers, seconds);
    }
}
