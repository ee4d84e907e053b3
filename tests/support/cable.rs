//! A TCP forwarder between client and hub that can be cut, frozen and mended.
#![allow(dead_code)] // Each test file uses its part.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Cable {
    port: u16,
    target: Arc<AtomicU16>,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Counts the times it was mended: connections of an earlier time end.
    Whole(u64),
    /// All connections end, and new ones end at once.
    Cut(u64),
    /// Nothing passes, nothing ends, and new connections are taken: a peer that says nothing.
    Frozen(u64),
}

impl Cable {
    /// A cable to a port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (state, watcher) = watch::channel(State::Whole(0));
        let target = Arc::new(AtomicU16::new(port));
        tokio::spawn(run(listener, target.clone(), watcher));
        Self { port: own, target, state }
    }

    /// New connections go to another port, as after a change of an address in DNS.
    pub(crate) fn retarget(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections; new ones end at once.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| *state = State::Cut(state.times()));
    }

    /// From here on nothing passes, until it is cut or mended.
    pub(crate) fn freeze(&self) {
        self.state.send_modify(|state| *state = State::Frozen(state.times()));
    }

    /// New connections pass; those of before end, if they have not yet.
    pub(crate) fn mend(&self) {
        self.state.send_modify(|state| *state = State::Whole(state.times() + 1));
    }
}

impl State {
    fn times(self) -> u64 {
        let (Self::Whole(times) | Self::Cut(times) | Self::Frozen(times)) = self;
        times
    }
}

async fn run(listener: TcpListener, target: Arc<AtomicU16>, state: watch::Receiver<State>) {
    let mut until_dropped = state.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            gone = async { while until_dropped.changed().await.is_ok() {} } => return gone,
        };
        let Ok((near, _)) = accepted else { return };
        tokio::spawn(forward(near, target.load(Ordering::Relaxed), state.clone()));
    }
}

async fn forward(mut near: TcpStream, target: u16, mut state: watch::Receiver<State>) {
    let now = *state.borrow_and_update();
    let ended = |state: &State| matches!(state, State::Cut(_)) || state.times() != now.times();
    if let State::Whole(_) = now {
        let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => return,
            changed = state.wait_for(|state| *state != now) => if changed.is_err() { return },
        }
        // Frozen, both ends are held open and neither is read.
        state.wait_for(ended).await.ok();
        return;
    }
    if let State::Frozen(_) = now {
        state.wait_for(ended).await.ok();
    }
}
