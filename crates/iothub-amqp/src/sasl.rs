//! What comes between TLS and the first AMQP frame: protocol headers and SASL, for both ends (amqp.md 1.2).

use std::{io, time::Duration};

use fe2o3_amqp::{
    frames::sasl::{Frame, FrameCodec},
    types::sasl::{SaslCode, SaslInit, SaslMechanisms, SaslOutcome},
};
use iothub_common::Secret;
use serde_amqp::primitives::{Array, Symbol};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_util::{
    bytes::{BufMut, BytesMut},
    codec::{Decoder, Encoder},
};

use crate::guard;

const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
const PLAIN: &str = "PLAIN";
/// A SAS token in a PLAIN response is the longest thing in a SASL frame.
const MAX_SASL_FRAME: usize = 8192;

/// Exchanges bare AMQP headers: the client side of peers that skip SASL, as we do.
pub async fn client<Io: AsyncRead + AsyncWrite + Unpin>(io: &mut Io) -> io::Result<()> {
    io.write_all(&AMQP_HEADER).await?;
    io.flush().await?;
    let answer = read_header(io).await?;
    if answer == AMQP_HEADER {
        return Ok(());
    }
    Err(invalid(format!("the peer does not speak bare AMQP 1.0, it answered {answer:?}")))
}

/// A name and a password for SASL PLAIN (amqp.md 1.3).
#[derive(Debug, Clone)]
pub struct Plain {
    /// Who logs in.
    pub name: String,
    /// A whole token.
    pub password: Secret,
}

/// Logs in with SASL PLAIN, then exchanges AMQP headers. Refused credentials are `PermissionDenied`.
pub async fn client_plain<Io: AsyncRead + AsyncWrite + Unpin>(io: &mut Io, plain: &Plain) -> io::Result<()> {
    io.write_all(&SASL_HEADER).await?;
    io.flush().await?;
    let answer = read_header(io).await?;
    if answer != SASL_HEADER {
        return Err(invalid(format!("the peer does not offer SASL, it answered {answer:?}")));
    }
    let Frame::Mechanisms(offer) = read_frame(io).await? else {
        return Err(invalid("SASL without an offer of mechanisms".into()));
    };
    if !offer.sasl_server_mechanisms.0.iter().any(|m| m.as_str() == PLAIN) {
        return Err(invalid("the peer does not offer SASL PLAIN".into()));
    }
    let response = format!("\0{}\0{}", plain.name, plain.password.reveal());
    let init = SaslInit {
        mechanism: Symbol::from(PLAIN),
        initial_response: Some(response.into_bytes().into()),
        hostname: None,
    };
    write_frame(io, Frame::Init(init)).await?;
    let Frame::Outcome(outcome) = read_frame(io).await? else {
        return Err(invalid("SASL without an outcome".into()));
    };
    match outcome.code {
        SaslCode::Ok => client(io).await,
        code => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("SASL login refused: {code:?}"))),
    }
}

/// A SASL login that a client asked for.
#[derive(Debug)]
pub struct Login {
    /// The mechanism, one of those offered.
    pub mechanism: String,
    /// The initial response; a secret with PLAIN.
    pub response: Vec<u8>,
}

/// The server side: a bare AMQP header, or SASL with one of `mechanisms` that `check` agrees to, then the AMQP
/// header. Returns what `check` made of the login, `None` without SASL.
///
/// A refused login gets its outcome and an error is returned; the caller drops the stream.
pub async fn server<Io, T>(
    io: &mut Io,
    mechanisms: &[&str],
    limit: Duration,
    check: impl FnOnce(Login) -> Option<T>,
) -> io::Result<Option<T>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    timeout(limit, serve(io, mechanisms, check))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn serve<Io, T>(
    io: &mut Io,
    mechanisms: &[&str],
    check: impl FnOnce(Login) -> Option<T>,
) -> io::Result<Option<T>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut header = read_header(io).await?;
    let mut identity = None;
    if header == SASL_HEADER {
        identity = Some(login(io, mechanisms, check).await?);
        header = read_header(io).await?;
    }
    // A peer with another idea is told ours before the end (AMQP 1.0 part 2, 2.2).
    io.write_all(&AMQP_HEADER).await?;
    io.flush().await?;
    if header != AMQP_HEADER {
        return Err(invalid("no AMQP 1.0 protocol header".into()));
    }
    Ok(identity)
}

async fn login<Io, T>(
    io: &mut Io,
    mechanisms: &[&str],
    check: impl FnOnce(Login) -> Option<T>,
) -> io::Result<T>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(&SASL_HEADER).await?;
    let offered = mechanisms.iter().map(|m| Symbol::from(*m)).collect::<Vec<_>>();
    let offer = SaslMechanisms { sasl_server_mechanisms: Array::from(offered) };
    write_frame(io, Frame::Mechanisms(offer)).await?;
    let Frame::Init(SaslInit { mechanism, initial_response, .. }) = read_frame(io).await? else {
        return Err(invalid("SASL without an init".into()));
    };
    let known = mechanisms.iter().any(|m| *m == mechanism.as_str());
    let login = Login {
        mechanism: mechanism.into_inner(),
        response: initial_response.map(|r| r.into_vec()).unwrap_or_default(),
    };
    let identity = known.then(|| check(login)).flatten();
    let code = if identity.is_some() { SaslCode::Ok } else { SaslCode::Auth };
    write_frame(io, Frame::Outcome(SaslOutcome { code, additional_data: None })).await?;
    identity.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "SASL login refused"))
}

async fn read_header<Io: AsyncRead + Unpin>(io: &mut Io) -> io::Result<[u8; 8]> {
    let mut header = [0; 8];
    io.read_exact(&mut header).await?;
    Ok(header)
}

async fn read_frame<Io: AsyncRead + Unpin>(io: &mut Io) -> io::Result<Frame> {
    let size = io.read_u32().await? as usize;
    if !(12..=MAX_SASL_FRAME).contains(&size) {
        return Err(invalid(format!("a SASL frame of {size} bytes")));
    }
    let mut bytes = BytesMut::zeroed(size - 4);
    io.read_exact(&mut bytes).await?;
    guard::end_of_value(&bytes, 4).map_err(|e| invalid(e.to_string()))?;
    let frame = (FrameCodec {}).decode(&mut bytes).map_err(|e| invalid(e.to_string()))?;
    frame.ok_or_else(|| invalid("an empty SASL frame".into()))
}

async fn write_frame<Io: AsyncWrite + Unpin>(io: &mut Io, frame: Frame) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    (FrameCodec {}).encode(frame, &mut bytes).map_err(|e| invalid(e.to_string()))?;
    let mut whole = BytesMut::with_capacity(bytes.len() + 4);
    whole.put_u32(bytes.len() as u32 + 4);
    whole.extend_from_slice(&bytes);
    io.write_all(&whole).await?;
    io.flush().await
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn log_in(mechanisms: &[&str], password: &str) -> (io::Result<()>, Option<Vec<u8>>) {
        let (mut here, mut there) = tokio::io::duplex(1024);
        let plain = Plain { name: "owner@sas.root.hub".into(), password: Secret::from("right".to_owned()) };
        let check = |login: Login| login.response.ends_with(password.as_bytes()).then_some(login.response);
        let (ours, theirs) = tokio::join!(
            async {
                let result = client_plain(&mut here, &plain).await;
                drop(here);
                result
            },
            async {
                let result = server(&mut there, mechanisms, Duration::from_secs(60), check).await;
                drop(there);
                result
            }
        );
        (ours, theirs.ok().flatten())
    }

    #[tokio::test]
    async fn plain_is_name_and_password_between_nuls() {
        let (ours, theirs) = log_in(&["ANONYMOUS", "PLAIN"], "right").await;
        ours.unwrap();
        assert_eq!(theirs.unwrap(), b"\0owner@sas.root.hub\0right");
    }

    #[tokio::test]
    async fn a_refused_login_and_a_server_without_plain_are_told_apart() {
        let (ours, _) = log_in(&["PLAIN"], "wrong").await;
        assert_eq!(ours.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let (ours, _) = log_in(&["ANONYMOUS"], "right").await;
        assert_eq!(ours.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
