//! An office's HTTP proxy: `CONNECT` with a user, a list of hosts, and a notebook.
#![allow(dead_code)] // Each test file uses its part.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use iothub::Proxy;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// `printf 'user:p@ss' | base64`
const USER: &str = "Proxy-Authorization: Basic dXNlcjpwQHNz";

pub(crate) struct ConnectProxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// Lets user `user` with the password `p@ss` through to port `to` of this machine, whatever host is asked for, unless
    /// it is called `forbidden`.
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, to, Arc::clone(&notes)));
            }
        });
        Self { port, asked }
    }

    pub(crate) fn with_user(&self, user: &str) -> Proxy {
        Proxy::new(&format!("http://{user}@127.0.0.1:{}", self.port)).unwrap()
    }

    pub(crate) fn proxy(&self) -> Proxy {
        self.with_user("user:p%40ss")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What was let through, `host:port`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(mut near: TcpStream, to: u16, notes: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match near.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
    let refusal = match head.lines().any(|line| line == USER) {
        false => Some("407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"office\""),
        true if target.starts_with("forbidden:") => Some("403 Forbidden"),
        true => None,
    };
    if let Some(refusal) = refusal {
        let answer = format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n");
        near.write_all(answer.as_bytes()).await.ok();
        return;
    }
    notes.lock().unwrap().push(target);
    let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    copy_bidirectional(&mut near, &mut far).await.ok();
}
