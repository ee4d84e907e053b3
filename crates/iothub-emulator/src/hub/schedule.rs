//! What happens in a hub as time passes.

use std::future::pending;
use std::time::SystemTime;

use tokio::task::JoinSet;

use super::Hub;

impl Hub {
    /// Does what is due as time passes: scheduled jobs run, configurations are applied anew, locks of messages end,
    /// messages expire, feedback goes out. Never returns; one task of a hub is to run it. Without it no job runs, and
    /// the rest happens when somebody asks for what is concerned.
    ///
    /// Dropping the future stops the jobs that run, which stay so.
    pub async fn run(&self) {
        tokio::join!(self.run_messaging(), self.run_schedule());
    }

    async fn run_schedule(&self) {
        let mut jobs = JoinSet::new();
        loop {
            self.run_due_configurations();
            for id in self.start_due_jobs() {
                let hub = self.clone();
                jobs.spawn(async move { hub.run_job(&id).await });
            }
            if let Some(id) = self.start_transfer() {
                let hub = self.clone();
                jobs.spawn(async move { hub.run_transfer(&id).await });
            }
            let next = [self.next_configuration_run(), self.next_job()].into_iter().flatten().min();
            tokio::select! {
                () = self.reached(next) => {}
                () = self.shared.schedule.notified() => {}
                Some(_) = jobs.join_next() => {}
            }
        }
    }

    /// Never, without a time.
    async fn reached(&self, at: Option<SystemTime>) {
        match at {
            Some(at) => self.clock().reached(at).await,
            None => pending().await,
        }
    }
}
