//! Questions to SAS providers on their way. They run in tasks of their own, so an application's code never holds up
//! the connection.

use std::{collections::HashMap, future::pending};

use iothub_common::{Result, Token};
use tokio::task::{AbortHandle, JoinSet};

use super::command::Key;
use crate::credentials::{SasProvider, SasRequest};

/// At most one question for each identity. Dropping this stops all of them.
#[derive(Debug, Default)]
pub(super) struct Asks {
    running: JoinSet<(Key, Result<Token>)>,
    handles: HashMap<Key, AbortHandle>,
}

impl Asks {
    /// Asks, unless a question of this identity is on its way.
    pub(super) fn ask(&mut self, key: Key, provider: &SasProvider, request: &SasRequest) {
        if self.handles.contains_key(&key) {
            return;
        }
        let asking = provider.clone().ask(request.clone());
        let handle = self.running.spawn(async move { (key, asking.await) });
        self.handles.insert(key, handle);
    }

    /// Nobody waits for the answer any more.
    pub(super) fn forget(&mut self, key: Key) {
        if let Some(handle) = self.handles.remove(&key) {
            handle.abort();
        }
    }

    /// The next answer; pending while there is no question. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> (Key, Result<Token>) {
        loop {
            match self.running.join_next().await {
                Some(Ok((key, answer))) => {
                    if self.handles.remove(&key).is_some() {
                        return (key, answer);
                    }
                }
                // Aborted: nobody waits. Panics are caught where providers are asked.
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use iothub_common::{Error, Identity};

    use super::*;

    fn request() -> SasRequest {
        SasRequest::new(Identity::device("d").unwrap(), "h")
    }

    #[tokio::test]
    async fn one_question_at_a_time_for_each_identity() {
        let asked = Arc::new(AtomicU32::new(0));
        let counter = asked.clone();
        let provider = SasProvider::new(move |_| {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::task::yield_now().await;
                Ok::<_, Error>(format!("SharedAccessSignature sr=h&sig=AA%3D%3D&se=99999999{number:02}"))
            }
        });
        let mut asks = Asks::default();
        for key in [1, 1, 2, 1] {
            asks.ask(key, &provider, &request());
        }
        let mut keys = [asks.next().await.0, asks.next().await.0];
        keys.sort_unstable();
        assert_eq!(keys, [1, 2]);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        asks.ask(1, &provider, &request());
        assert_eq!(asks.next().await.0, 1);
    }

    #[tokio::test]
    async fn an_answer_for_nobody_is_passed_over() {
        let provider = SasProvider::new(|_| async {
            Ok::<_, Error>("SharedAccessSignature sr=h&sig=AA%3D%3D&se=9999999999".to_owned())
        });
        let mut asks = Asks::default();
        asks.ask(1, &provider, &request());
        asks.forget(1);
        asks.ask(2, &provider, &request());
        assert_eq!(asks.next().await.0, 2);
    }
}
