//! A TCP forwarder between client and hub that can be cut and mended.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Cable {
    port: u16,
    /// Odd: cut. Every change ends what is connected.
    state: watch::Sender<u64>,
}

impl Cable {
    /// A cable to a port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (state, watcher) = watch::channel(0);
        tokio::spawn(run(listener, ([127, 0, 0, 1], port).into(), watcher));
        Self { port: own, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections; new ones end at once.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| *state |= 1);
    }

    pub(crate) fn mend(&self) {
        self.state.send_modify(|state| *state = (*state | 1) + 1);
    }
}

async fn run(listener: TcpListener, target: SocketAddr, state: watch::Receiver<u64>) {
    let mut until_dropped = state.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            gone = async { while until_dropped.changed().await.is_ok() {} } => return gone,
        };
        let Ok((mut near, _)) = accepted else { return };
        let mut state = state.clone();
        if *state.borrow_and_update() % 2 == 1 {
            continue;
        }
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(target).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = state.changed() => {}
            }
        });
    }
}
