//! The store, or the turn that has it.

use std::{fmt, future::pending};

use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    store::MessageStore,
    turn::{Done, Turn},
};

/// The store is here, or away for a turn on a thread where it may block.
pub(super) enum Slot {
    Here(Box<dyn MessageStore>),
    Away(JoinHandle<(Box<dyn MessageStore>, Done)>),
    /// Its code panicked.
    Lost,
}

impl Slot {
    pub(super) fn new(store: Box<dyn MessageStore>) -> Self {
        Self::Here(store)
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// Begins a turn. The store must be here.
    pub(super) fn start(&mut self, turn: Turn) {
        *self = match std::mem::replace(self, Self::Lost) {
            Self::Here(mut store) => Self::Away(spawn_blocking(move || {
                let done = turn.run(store.as_mut());
                (store, done)
            })),
            other => other,
        };
    }

    /// The end of a turn; pending while there is none, `None` when the store is lost. Dropping the future loses
    /// nothing.
    pub(super) async fn next(&mut self) -> Option<Done> {
        let turn = match self {
            Self::Here(_) => pending().await,
            Self::Away(turn) => turn,
            Self::Lost => return None,
        };
        match turn.await {
            Ok((store, done)) => {
                *self = Self::Here(store);
                Some(done)
            }
            Err(error) => {
                tracing::error!(%error, "the store of a telemetry buffer failed");
                *self = Self::Lost;
                None
            }
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Here(_) => "Here",
            Self::Away(_) => "Away",
            Self::Lost => "Lost",
        })
    }
}
