//! An HTTP proxy that can be cut and mended, whatever is connected through it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct ProxyServer {
    port: u16,
    /// Odd: cut. Every change ends what is connected.
    state: watch::Sender<u64>,
}

impl ProxyServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, watcher) = watch::channel(0);
        tokio::spawn(run(listener, watcher));
        Self { port, state }
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

async fn run(listener: TcpListener, state: watch::Receiver<u64>) {
    let mut until_dropped = state.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            gone = async { while until_dropped.changed().await.is_ok() {} } => return gone,
        };
        let Ok((near, _)) = accepted else { return };
        let mut state = state.clone();
        if *state.borrow_and_update() % 2 == 1 {
            continue;
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = tunnel(near) => {}
                _ = state.changed() => {}
            }
        });
    }
}

/// `CONNECT host:port HTTP/1.1`, then bytes.
async fn tunnel(mut near: TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut words = head.split(' ');
    assert_eq!(words.next(), Some("CONNECT"));
    let mut far = TcpStream::connect(words.next()?).await.ok()?;
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    copy_bidirectional(&mut near, &mut far).await.ok()?;
    Some(())
}
