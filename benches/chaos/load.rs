//! The callers: some tens of tasks that run one command after the other on one pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sshpool::{Host, Pool};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::job::Job;
use crate::lab::Lab;
use crate::random::Random;
use crate::run::{On, run};
use crate::told::{Outcome, Told};
use crate::{CLOSING, ROUNDING, WORK};

/// A command that was run.
pub struct Done {
    pub job: Job,
    pub told: Told,
    pub started: Instant,
    pub ended: Instant,
}

/// What all callers of a round share.
pub struct Load {
    pub pool: Pool,
    pub host: Host,
    pub seed: u64,
    /// The round's part of every id.
    pub round: String,
    pub stop: AtomicBool,
}

impl Load {
    /// Starts the callers.
    pub fn start(load: &Arc<Load>, workers: usize) -> JoinSet<Vec<Done>> {
        let mut tasks = JoinSet::new();
        for worker in 0..workers {
            tasks.spawn(Arc::clone(load).work(worker));
        }
        tasks
    }

    async fn work(self: Arc<Load>, worker: usize) -> Vec<Done> {
        let mut done = Vec::new();
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let mut random = Random::of(self.seed, &[WORK, worker as u64, number as u64]);
            if random.percent(8) {
                self.with_lease(&mut random, worker, &mut number, &mut done).await;
            } else {
                self.one(&mut random, worker, &mut number, None, &mut done).await;
            }
            if random.below(400) == 0 {
                self.close_host(&mut random, worker, &mut number, &mut done).await;
            }
            if random.percent(30) {
                sleep(random.millis(0, 200)).await;
            }
        }
        done
    }

    /// Several commands on one connection, with pauses.
    async fn with_lease(
        &self,
        random: &mut Random,
        worker: usize,
        number: &mut usize,
        done: &mut Vec<Done>,
    ) {
        let config = self.pool.config();
        let patience = config.acquire_timeout + config.connect_timeout + ROUNDING;
        let commands = random.between(1, 5);
        let started = Instant::now();
        let lease = match timeout(patience, self.pool.acquire(&self.host)).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(_)) => {
                *number += 1;
                return self.calm_down().await;
            }
            Err(_) => {
                return done.push(self.hung("acquire", patience, random, worker, number, started));
            }
        };
        for _ in 0..commands {
            self.one(random, worker, number, Some(&lease), done).await;
            if done.last().is_none_or(|last| last.told.outcome != Outcome::Ran) {
                return;
            }
            sleep(random.millis(0, 300)).await;
        }
    }

    async fn close_host(
        &self,
        random: &mut Random,
        worker: usize,
        number: &mut usize,
        done: &mut Vec<Done>,
    ) {
        let started = Instant::now();
        if timeout(CLOSING, self.pool.close_host(&self.host)).await.is_err() {
            done.push(self.hung("close_host", CLOSING, random, worker, number, started));
        }
    }

    /// A command that was never asked for stands for a call that did not come back.
    fn hung(
        &self,
        call: &str,
        patience: Duration,
        random: &mut Random,
        worker: usize,
        number: &mut usize,
        started: Instant,
    ) -> Done {
        let job = self.job(random, worker, number);
        let wrong = Some(format!("{call} did not come back within {patience:?}"));
        let told =
            Told { outcome: Outcome::Hung, kind: "", words: call.to_owned(), gone: false, wrong };
        Done { job, told, started, ended: Instant::now() }
    }

    async fn one(
        &self,
        random: &mut Random,
        worker: usize,
        number: &mut usize,
        lease: Option<&sshpool::Lease>,
        done: &mut Vec<Done>,
    ) {
        let job = self.job(random, worker, number);
        let config = self.pool.config();
        let patience = job.timeout + config.acquire_timeout + config.connect_timeout + ROUNDING;
        let on = lease.map_or(On::Pool(&self.pool, &self.host), On::Lease);
        let started = Instant::now();
        let told = run(&job, on, patience).await;
        let never_started = told.outcome == Outcome::NeverStarted;
        done.push(Done { job, told, started, ended: Instant::now() });
        if never_started {
            self.calm_down().await;
        }
    }

    fn job(&self, random: &mut Random, worker: usize, number: &mut usize) -> Job {
        let (id, record) = (self.id(worker, number), Lab::record(&self.round));
        Job::draw(random, id, &record, self.pool.config().session_reuse)
    }

    fn id(&self, worker: usize, number: &mut usize) -> String {
        *number += 1;
        format!("{}-{worker}-{number}", self.round)
    }

    /// While a host is left alone after a failure, callers get that failure at once.
    async fn calm_down(&self) {
        sleep(Duration::from_millis(150)).await;
    }
}
