#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::identity::Identity;

const KEY: &str = "a2V5IG9mIGEgZGV2aWNlIGZvciB0ZXN0cw==";
const TOKEN: &str = "SharedAccessSignature sr=h.example.net&sig=c2lnbmF0dXJl&se=1893456000&skn=owner";

/// Everything of a message a user can see.
fn refused<T: std::str::FromStr<Err = crate::Error> + std::fmt::Debug>(text: &str) -> String {
    let error = text.parse::<T>().expect_err(text);
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let shown = format!("{error} {error:?}");
    for secret in ["a2V5", "c2ln", "c2VjcmV0"] {
        assert!(!shown.contains(secret), "a secret in: {shown}");
    }
    error.to_string()
}

#[test]
fn a_service_string_however_written() {
    for text in [
        format!("HostName=hub.example.net;SharedAccessKeyName=owner;SharedAccessKey={KEY}"),
        format!("SharedAccessKey={KEY};HostName=hub.example.net;SharedAccessKeyName=owner;"),
        format!("hostname=hub.example.net;SHAREDACCESSKEYNAME=owner;sharedaccesskey={KEY}"),
        format!("  HostName = hub.example.net ; SharedAccessKeyName= owner;\n SharedAccessKey ={KEY} ; \n"),
    ] {
        let parsed: ServiceConnectionString = text.parse().unwrap();
        assert_eq!((parsed.host_name(), parsed.policy_name()), ("hub.example.net", Some("owner")));
        let Credential::SharedAccessKey(key) = parsed.credential() else { panic!("{parsed:?}") };
        assert_eq!(key.to_base64().reveal(), KEY);
        assert_eq!(
            parsed.reveal().reveal(),
            format!("HostName=hub.example.net;SharedAccessKeyName=owner;SharedAccessKey={KEY}")
        );
    }
}

#[test]
fn a_device_or_module_string() {
    let text = format!("HostName=localhost;DeviceId=dev=1;SharedAccessKey={KEY}");
    let device: DeviceConnectionString = text.parse().unwrap();
    assert_eq!(device.host_name(), "localhost");
    assert_eq!(*device.identity(), Identity::device("dev=1").unwrap());
    assert_eq!(device.gateway_host_name(), None);
    assert_eq!(device.reveal().reveal(), text);

    let text = format!(
        "hostName=h.example.net;deviceId=d;moduleId=$edgeHub;sharedAccessKey={KEY};gatewayHostName=gw.example.net"
    );
    let module: DeviceConnectionString = text.parse().unwrap();
    assert_eq!(*module.identity(), Identity::module("d", "$edgeHub").unwrap());
    assert_eq!(module.gateway_host_name(), Some("gw.example.net"));
    assert_eq!(module.require_module().unwrap(), ("d", "$edgeHub"));
}

#[test]
fn ready_made_signatures_and_certificates() {
    let service: ServiceConnectionString =
        format!("HostName=h.example.net;SharedAccessSignature={TOKEN}").parse().unwrap();
    assert_eq!(service.policy_name(), None);
    assert_eq!(*service.credential(), Credential::SharedAccessSignature(TOKEN.into()));

    let device: DeviceConnectionString =
        format!("HostName=h.example.net;DeviceId=d;SharedAccessSignature={TOKEN}").parse().unwrap();
    assert_eq!(*device.credential(), Credential::SharedAccessSignature(TOKEN.into()));

    for text in
        ["HostName=h.example.net;DeviceId=d;x509=true", "HostName=h.example.net;DeviceId=d;X509=True;"]
    {
        let device: DeviceConnectionString = text.parse().unwrap();
        assert_eq!(*device.credential(), Credential::X509);
    }
}

#[test]
fn a_service_string_is_told_what_is_wrong() {
    let rest = format!("SharedAccessKeyName=owner;SharedAccessKey={KEY}");
    for (text, says) in [
        (String::new(), "is empty"),
        (" ; ".into(), "part 1 of the connection string is empty"),
        (rest.clone(), "HostName is missing in the service"),
        (format!("HostName=h;SharedAccessKey={KEY}"), "SharedAccessKeyName is missing"),
        ("HostName=h;SharedAccessKeyName=owner".into(), "SharedAccessKey is missing"),
        (format!("HostName=h;HostName=h;{rest}"), "HostName is in the connection string twice"),
        (format!("HostName=;{rest}"), "HostName has no value"),
        ("HostName=h;SharedAccessKeyName=owner;SharedAccessKey=".into(), "SharedAccessKey has no value"),
        (format!("HostName=h;;{rest}"), "part 2 of the connection string is empty"),
        (format!("HostName=h;{rest};;"), "part 4 of the connection string is empty"),
        (format!("HostName=h;EntityPath=x;{rest}"), "EntityPath is not a part"),
        (format!("HostName=h;{rest};GatewayHostName=g"), "GatewayHostName was not expected in a service"),
        (format!("HostName=h;{rest};x509=true"), "x509 was not expected in a service"),
        (format!("HostName=h;{rest};SharedAccessSignature={TOKEN}"), "beside SharedAccessSignature"),
        (format!("HostName=h:8443;{rest}"), "ClientOptions.https_port"),
        (format!("HostName=https://h.example.net;{rest}"), "without `https://`"),
        (format!("HostName=h example;{rest}"), "HostName has a character"),
        (format!("HostName=h;DeviceId=d;{rest}"), "connection string of a device"),
        (format!("HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey={KEY}"), "connection string of a module"),
    ] {
        let shown = refused::<ServiceConnectionString>(&text);
        assert!(shown.contains(says), "{text:?} says {shown:?}, not {says:?}");
    }
}

#[test]
fn a_device_string_is_told_what_is_wrong() {
    let key = format!("SharedAccessKey={KEY}");
    for (text, says) in [
        (format!("DeviceId=d;{key}"), "HostName is missing in the device"),
        (format!("HostName=h;{key}"), "DeviceId is missing in the device"),
        (format!("HostName=h;ModuleId=m;{key}"), "DeviceId is missing in the device"),
        ("HostName=h;DeviceId=d".into(), "SharedAccessKey is missing"),
        ("HostName=h;DeviceId=d;x509=false".into(), "SharedAccessKey is missing"),
        ("HostName=h;DeviceId=d;x509=maybe".into(), "x509 must be `true`"),
        (format!("HostName=h;DeviceId=d;x509=true;{key}"), "SharedAccessKey was not expected"),
        (
            format!("HostName=h;DeviceId=d;{key};SharedAccessSignature={TOKEN}"),
            "SharedAccessKey was not expected",
        ),
        (format!("HostName=h;DeviceId=a b;{key}"), "device id has the character ' '"),
        (format!("HostName=h;DeviceId=d;ModuleId=m/n;{key}"), "module id has the character '/'"),
        (format!("HostName=h;DeviceId=d;ModuleId=;{key}"), "ModuleId has no value"),
        (
            format!("HostName=h;DeviceId=d;SharedAccessKeyName=owner;{key}"),
            "SharedAccessKeyName was not expected",
        ),
        (
            format!("HostName=h;DeviceId=d;GatewayHostName=g:8883;{key}"),
            "GatewayHostName must be a host name alone",
        ),
        (format!("HostName=h;SharedAccessKeyName=owner;{key}"), "connection string of the hub itself"),
    ] {
        let shown = refused::<DeviceConnectionString>(&text);
        assert!(shown.contains(says), "{text:?} says {shown:?}, not {says:?}");
    }
}

/// What looks like a key is never repeated, wherever it was pasted.
#[test]
fn keys_in_the_wrong_place_are_not_shown() {
    for (text, says) in [
        ("HostName=h;DeviceId=d;c2VjcmV0c2VjcmV0", "part 3 of the connection string is not of the form"),
        ("HostName=h;DeviceId=d;c2VjcmV0c2VjcmU=", "part 3 of the connection string has no known name"),
        ("HostName=h;DeviceId=d;c2VjcmV0c2VjcmV0cw==", "part 3 of the connection string has no known name"),
        ("HostName=h;DeviceId=d;c2VjcmV0/2VjcmV0+w=x", "part 3 of the connection string has no known name"),
        ("HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0!", "not valid base64"),
        ("HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0cw", "not valid base64"),
        ("HostName=c2VjcmV0+/==;DeviceId=d;SharedAccessKey=c2VjcmV0", "HostName must be a host name alone"),
        ("c2VjcmV0c2VjcmV0cw==", "part 1 of the connection string has no known name"),
    ] {
        let shown = refused::<DeviceConnectionString>(text);
        assert!(shown.contains(says), "{text:?} says {shown:?}, not {says:?}");
    }
}

#[test]
fn debug_shows_no_key() {
    let service: ServiceConnectionString =
        format!("HostName=h;SharedAccessKeyName=owner;SharedAccessKey={KEY}").parse().unwrap();
    let device: DeviceConnectionString =
        format!("HostName=h;DeviceId=d;SharedAccessKey={KEY}").parse().unwrap();
    let signed: DeviceConnectionString =
        format!("HostName=h;DeviceId=d;SharedAccessSignature={TOKEN}").parse().unwrap();
    for shown in [
        format!("{service:?}"),
        format!("{device:#?}"),
        format!("{signed:?}"),
        format!("{:?}", device.reveal()),
    ] {
        assert!(shown.contains("redacted") && !shown.contains("a2V5") && !shown.contains("c2ln"), "{shown}");
    }
}

#[test]
fn a_device_where_a_module_is_wanted() {
    let device: DeviceConnectionString =
        format!("HostName=h;DeviceId=dev7;SharedAccessKey={KEY}").parse().unwrap();
    let shown = device.require_module().unwrap_err().to_string();
    assert!(
        shown.contains("ModuleId is missing") && shown.contains("dev7") && shown.contains("add_module"),
        "{shown}"
    );
}

#[test]
fn strings_made_in_code_are_checked() {
    let key = || SymmetricKey::from_base64(KEY).unwrap();
    assert!(DeviceConnectionString::new("h:443", Identity::device("d").unwrap(), key()).is_err());
    let shown =
        DeviceConnectionString::new("h", Identity::device("a;b").unwrap(), key()).unwrap_err().to_string();
    assert!(shown.contains("a;b"), "{shown}");
    assert!(ServiceConnectionString::new("", "owner", key()).is_err());
    assert!(ServiceConnectionString::new("h", "own;er", key()).is_err());
    let made = ServiceConnectionString::new("h", "owner", key()).unwrap();
    assert_eq!(made.reveal().reveal(), format!("HostName=h;SharedAccessKeyName=owner;SharedAccessKey={KEY}"));
}

#[test]
fn token_sources_sign_for_what_the_string_names() {
    let now = std::time::UNIX_EPOCH;
    let service: ServiceConnectionString =
        format!("HostName=h.example.net;SharedAccessKeyName=owner;SharedAccessKey={KEY}").parse().unwrap();
    let token = service.token_source().unwrap().token(now).unwrap();
    let token = crate::SasToken::parse(token.secret.reveal()).unwrap();
    assert_eq!((token.resource.as_str(), token.policy.as_deref()), ("h.example.net", Some("owner")));

    let module: DeviceConnectionString =
        format!("HostName=h.example.net;DeviceId=d@1;ModuleId=m;SharedAccessKey={KEY};GatewayHostName=gw")
            .parse()
            .unwrap();
    let token = module.token_source().unwrap().token(now).unwrap();
    let token = crate::SasToken::parse(token.secret.reveal()).unwrap();
    // Tokens name the hub, not the gateway (amqp.md 2.3).
    assert_eq!((token.resource.as_str(), token.policy), ("h.example.net/devices/d@1/modules/m", None));
}

prop_compose! {
    fn key()(bytes in proptest::collection::vec(any::<u8>(), 1..80)) -> SymmetricKey {
        use base64::Engine as _;
        SymmetricKey::from_base64(&base64::engine::general_purpose::STANDARD.encode(bytes)).unwrap()
    }
}

proptest! {
    #[test]
    fn device_strings_come_back(
        host in "[a-z0-9][a-z0-9.-]{0,30}",
        device in r"[A-Za-z0-9:+%_#*?!(),=@$'-]{1,128}",
        module in proptest::option::of(r"[A-Za-z0-9:+%_#*?!(),=@$'-]{1,128}"),
        key in key(),
    ) {
        let identity = match &module {
            Some(module) => Identity::module(device, module.as_str()).unwrap(),
            None => Identity::device(device).unwrap(),
        };
        let made = DeviceConnectionString::new(host, identity, key).unwrap();
        let parsed: DeviceConnectionString = made.reveal().reveal().parse().unwrap();
        prop_assert_eq!(parsed, made);
    }

    #[test]
    fn order_case_and_space_do_not_matter(
        order in Just(vec![0_usize, 1, 2]).prop_shuffle(),
        upper in any::<bool>(),
        space in "[ \t]{0,3}",
        end in "(;?[ \n]{0,2})",
    ) {
        let names = ["HostName", "SharedAccessKeyName", "SharedAccessKey"];
        let values = ["h.example.net", "owner", KEY];
        let parts: Vec<String> = order.iter().map(|&i| {
            let name = if upper { names[i].to_uppercase() } else { names[i].to_lowercase() };
            format!("{space}{name}{space}={space}{}{space}", values[i])
        }).collect();
        let parsed: ServiceConnectionString = format!("{}{end}", parts.join(";")).parse().unwrap();
        prop_assert_eq!(parsed, ServiceConnectionString::new("h.example.net", "owner", SymmetricKey::from_base64(KEY).unwrap()).unwrap());
    }

    #[test]
    fn no_text_panics(text in r"\PC*", head in "(HostName=h;|DeviceId=d;|SharedAccessKey=|x509=)?") {
        let text = format!("{head}{text}");
        let _ = text.parse::<ServiceConnectionString>();
        let _ = text.parse::<DeviceConnectionString>();
        let _ = crate::SasToken::parse(&text);
    }
}
