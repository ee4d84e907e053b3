//! The beginning of a connection: headers, and SASL for those who use it (amqp.md 1.2, 1.3).

use std::io;
use std::time::Duration;

use iothub_amqp::sasl;
use iothub_common::identity::unescape_id;
use iothub_common::{Identity, Secret};
use tokio::io::{AsyncRead, AsyncWrite};

use super::grants::Held;
use crate::hub::{Hub, Who};

/// `ANONYMOUS` and `MSSBCBS` prove nothing: tokens follow on `$cbs`. With `PLAIN` the password is the token.
/// `EXTERNAL`, the last one, points to a certificate that TLS has shown (amqp.md 1.2).
const MECHANISMS: [&str; 4] = ["ANONYMOUS", "MSSBCBS", "PLAIN", "EXTERNAL"];
/// From the end of the TLS handshake to the AMQP header.
const LIMIT: Duration = Duration::from_secs(10);

/// Exchanges the protocol headers. What a PLAIN login proved is returned; others have proved nothing yet.
pub(super) async fn accept<Io>(io: &mut Io, hub: &Hub, certified: bool) -> io::Result<Option<Held>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let check = |login: sasl::Login| match login.mechanism.as_str() {
        "PLAIN" => plain(&login.response, hub).map(Some),
        _ => Some(None),
    };
    let offered = if certified { &MECHANISMS[..] } else { &MECHANISMS[..3] };
    Ok(sasl::server(io, offered, LIMIT, check).await?.flatten())
}

/// Checks `authzid NUL authcid NUL passwd`: the password is a token, and it must be one for who is named.
fn plain(response: &[u8], hub: &Hub) -> Option<Held> {
    let response = std::str::from_utf8(response).ok()?;
    let mut parts = response.split('\0');
    let (_authzid, name, token) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let user = User::parse(name, hub.host_name())?;
    let grant = hub.check_token(token).inspect_err(|error| tracing::debug!(%error, "login refused")).ok()?;
    let only = match user {
        User::Policy(named) => {
            let Who::Policy { name, .. } = &grant.who else { return None };
            (*name == named).then_some(None)
        }
        User::Identity(identity) => grant.allows_identity(&identity).then_some(Some(identity)),
    }?;
    Some(Held { grant, token: Secret::from(token.to_owned()), only })
}

/// Who logs in.
#[derive(Debug, PartialEq, Eq)]
enum User {
    /// `{policy}@sas.root.{hub}`
    Policy(String),
    /// `{device}[/modules/{module}]@sas.{hub}`, also without `sas.`
    Identity(Identity),
}

impl User {
    fn parse(name: &str, host_name: &str) -> Option<Self> {
        let hub = host_name.split('.').next().unwrap_or_default();
        // Ids may have an @ of their own.
        let (who, at) = name.rsplit_once('@')?;
        let (prefix, named) = at.rsplit_once('.').unwrap_or(("", at));
        if !named.eq_ignore_ascii_case(hub) {
            return None;
        }
        match prefix.to_ascii_lowercase().as_str() {
            "sas.root" => Some(Self::Policy(who.to_owned())),
            "sas" | "" => Some(Self::Identity(identity(who)?)),
            _ => None,
        }
    }
}

fn identity(who: &str) -> Option<Identity> {
    let segments = who.split('/').map(|part| unescape_id(part).ok()).collect::<Option<Vec<_>>>()?;
    match segments.as_slice() {
        [device] => Identity::device(device).ok(),
        [device, modules, module] if modules.eq_ignore_ascii_case("modules") => {
            Identity::module(device, module).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn users_are_policies_devices_and_modules_of_this_hub() {
        let policy = |name: &str| Some(User::Policy(name.to_owned()));
        let device = |id: &str| Some(User::Identity(Identity::device(id).unwrap()));
        let module = |d: &str, m: &str| Some(User::Identity(Identity::module(d, m).unwrap()));
        for (name, expected) in [
            ("iothubowner@sas.root.myhub", policy("iothubowner")),
            ("iothubowner@sas.root.MyHub", policy("iothubowner")),
            ("d@sas.myhub", device("d")),
            ("d@myhub", device("d")),
            ("d@1@sas.myhub", device("d@1")),
            ("d%401@sas.myhub", device("d@1")),
            ("d/modules/m@sas.myhub", module("d", "m")),
            ("d/Modules/m@myhub", module("d", "m")),
            ("d", None),
            ("d@sas.otherhub", None),
            ("d@sas.myhub.example.net", None),
            ("d@other.myhub", None),
            ("d/m@sas.myhub", None),
            ("@sas.myhub", None),
        ] {
            assert_eq!(User::parse(name, "myhub.example.net"), expected, "{name}");
        }
    }
}
