#![allow(clippy::unwrap_used)]

use super::*;
use ErrorKind as K;

const DEVICE: Subject<'_> = Subject::Device("dev7");
const MODULE: Subject<'_> = Subject::Module { device: "dev7", module: "mod9" };
const HUB: Subject<'_> = Subject::Hub("hub.example.net");

fn source(error: &Error) -> String {
    StdError::source(error).map(ToString::to_string).unwrap_or_default()
}

/// Shape A of rest.md 2.1.
fn shape_a(message: &str) -> String {
    format!(
        r#"{{"Message":"{message}","ExceptionMessage":"Tracking ID:0123456789abcdef0123456789abcdef-G:2-TimeStamp:11/25/2026 08:00:00"}}"#
    )
}

#[test]
fn http_answers_of_the_real_hub() {
    // Status, message of shape A, kind, code: the samples of rest.md 2.1.
    for (status, message, kind, code) in [
        (401, "ErrorCode:IotHubUnauthorizedAccess;Unauthorized", K::Unauthorized, "IotHubUnauthorizedAccess"),
        (404, "ErrorCode:DeviceNotFound;dev7", K::NotFound, "DeviceNotFound"),
        (404, "ErrorCode:ModuleNotFound;dev7/mod9", K::NotFound, "ModuleNotFound"),
        (409, "ErrorCode:DeviceAlreadyExists;Conflict", K::AlreadyExists, "DeviceAlreadyExists"),
        (400, "ErrorCode:InvalidProtocolVersion;BadRequest", K::InvalidInput, "InvalidProtocolVersion"),
        (
            412,
            "ErrorCode:PreconditionFailed;Precondition failed: Invalid ETag",
            K::PreconditionFailed,
            "PreconditionFailed",
        ),
        (400, "ErrorCode:ArgumentNull;BadRequest", K::InvalidInput, "ArgumentNull"),
        (
            403,
            "ErrorCode:DeviceModelMaxPropertiesExceeded;'Properties.Desired' size should be less than 8192 bytes.",
            K::InvalidInput,
            "DeviceModelMaxPropertiesExceeded",
        ),
        (
            429,
            "ErrorCode:ThrottlingBacklogTimeout;The request has been throttled. Wait 10 seconds and try again. Operation type: CRUD",
            K::Throttled,
            "ThrottlingBacklogTimeout",
        ),
        (500, "ErrorCode:ServerError;InternalServerError", K::Unavailable, "ServerError"),
        (413, "ErrorCode:TooManyModulesOnDevice;x", K::QuotaExceeded, "TooManyModulesOnDevice"),
        (403, "ErrorCode:IotHubQuotaExceeded;x", K::QuotaExceeded, "IotHubQuotaExceeded"),
    ] {
        let error = error_from_http(status, None, shape_a(message).as_bytes(), &DEVICE);
        assert_eq!((error.kind(), error.hub_code()), (kind, Some(code)), "{message}");
        assert_eq!(error.status(), Some(status));
        assert_eq!(
            error.tracking_id(),
            Some("0123456789abcdef0123456789abcdef-G:2-TimeStamp:11/25/2026 08:00:00")
        );
        let text = message.split_once(';').unwrap().1;
        let shown = format!("{error} / {}", source(&error));
        assert!(shown.contains(text) && shown.contains("`dev7`"), "{shown}");
    }
}

#[test]
fn statuses_without_a_body() {
    for (status, kind, retryable, maybe) in [
        (400, K::InvalidInput, false, false),
        (401, K::Unauthorized, false, false),
        (403, K::Rejected, false, false),
        (404, K::NotFound, false, false),
        (405, K::Rejected, false, false),
        (408, K::Timeout, true, true),
        (409, K::AlreadyExists, false, false),
        (412, K::PreconditionFailed, false, false),
        (413, K::InvalidInput, false, false),
        (429, K::Throttled, true, false),
        (500, K::Unavailable, true, true),
        (501, K::Rejected, false, false),
        (502, K::Unavailable, true, true),
        (503, K::Unavailable, true, false),
        (504, K::Timeout, true, true),
        (302, K::Protocol, false, false),
        (204, K::Protocol, false, false),
    ] {
        let error = error_from_http(status, None, b"", &DEVICE);
        assert_eq!(
            (error.kind(), error.is_retryable(), error.may_have_been_applied(), error.status()),
            (kind, retryable, maybe, Some(status))
        );
        assert_eq!((error.hub_code(), error.tracking_id(), error.retry_after()), (None, None, None));
        let shown = format!("{error} / {}", source(&error));
        assert!(shown.contains(&status.to_string()) && shown.contains("`dev7`"), "{shown}");
    }
}

/// Direct methods: the message is JSON text once more (rest.md 2.1).
#[test]
fn shape_b() {
    let body = br#"{"Message":"{\"errorCode\":404103,\"trackingId\":\"0f-G:0-TimeStamp:08/24/2018 17:49:33\",\"message\":\"Timed out waiting for device to connect.\",\"info\":{\"timeout\":\"00:00:00\"},\"timestampUtc\":\"2018-08-24T17:49:33.201157Z\"}","ExceptionMessage":""}"#;
    let error = error_from_http(404, None, body, &DEVICE);
    assert_eq!((error.kind(), error.hub_code()), (K::Unavailable, Some("DeviceNotOnline")));
    assert_eq!(error.tracking_id(), Some("0f-G:0-TimeStamp:08/24/2018 17:49:33"));
    assert!(error.to_string().contains("not connected") && !error.may_have_been_applied(), "{error}");
    assert!(source(&error).contains("Timed out waiting for device to connect."));

    let left = br#"{"Message":"{\"errorCode\":404104,\"message\":\"gone\"}","ExceptionMessage":""}"#;
    assert!(error_from_http(404, None, left, &DEVICE).may_have_been_applied());
}

#[test]
fn the_header_helps_where_the_body_says_nothing() {
    let code = |header, body: &[u8]| {
        let error = error_from_http(400, header, body, &DEVICE);
        (error.kind(), error.hub_code().map(str::to_owned))
    };
    assert_eq!(code(Some("ThrottlingException"), b""), (K::Throttled, Some("ThrottlingException".into())));
    assert_eq!(code(Some("404010"), b"{}"), (K::NotFound, Some("ModuleNotFound".into())));
    // Unknown to us, still passed on; its status decides.
    assert_eq!(code(Some("BrandNew"), b""), (K::InvalidInput, Some("BrandNew".into())));
    assert_eq!(code(Some("400999"), b""), (K::InvalidInput, Some("400999".into())));
    let body = shape_a("ErrorCode:DeviceNotFound;d");
    assert_eq!(code(Some("ServerError"), body.as_bytes()), (K::NotFound, Some("DeviceNotFound".into())));
    let body = shape_a("ErrorCode:BrandNew;d");
    assert_eq!(code(Some("DeviceNotFound"), body.as_bytes()), (K::NotFound, Some("DeviceNotFound".into())));
    assert_eq!(code(Some("Other"), body.as_bytes()), (K::InvalidInput, Some("BrandNew".into())));
    assert_eq!(code(Some(" "), b""), (K::InvalidInput, None));
}

#[test]
fn messages_name_the_thing_and_the_way_out() {
    let http = |status, name: &str, subject: &Subject<'_>| {
        error_from_http(status, None, shape_a(&format!("ErrorCode:{name};x")).as_bytes(), subject).to_string()
    };
    for (message, says) in [
        (http(404, "ModuleNotFound", &MODULE), vec!["`mod9`", "`dev7`", "add_module"]),
        (http(404, "DeviceNotFound", &MODULE), vec!["`mod9`", "`dev7`", "create_device", "add_module"]),
        (http(404, "DeviceNotFound", &DEVICE), vec!["`dev7`", "create_device"]),
        (http(404, "IotHubNotFound", &HUB), vec!["`hub.example.net`", "host name"]),
        (http(409, "ModuleAlreadyExistsOnDevice", &MODULE), vec!["`mod9`", "`dev7`", "get_module"]),
        (http(409, "DeviceAlreadyExists", &DEVICE), vec!["`dev7`", "get_device"]),
        (http(401, "IotHubUnauthorizedAccess", &MODULE), vec!["`mod9`", "key", "host name", "clock"]),
        (http(412, "PreconditionFailed", &MODULE), vec!["`mod9`", "get it again", "etag"]),
        (http(404, "JobNotFound", &HUB), vec!["job"]),
    ] {
        assert!(says.iter().all(|part| message.contains(part)), "{message} lacks one of {says:?}");
    }
    let error = error_from_amqp("amqp:not-found", None, &MODULE);
    assert_eq!(error.to_string(), "module `mod9` not found on device `dev7`; create it with add_module");
}

#[test]
fn the_hub_says_how_long_to_wait() {
    let body = shape_a(
        "ErrorCode:ThrottlingBacklogTimeout;The request has been throttled. Wait 10 seconds and try again.",
    );
    let error = error_from_http(429, None, body.as_bytes(), &HUB);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(10)));
    for text in ["Wait a minute", "Wait", "Wait x seconds", "Wait 10 apples"] {
        let body = shape_a(&format!("ErrorCode:ThrottlingException;{text}"));
        assert_eq!(error_from_http(429, None, body.as_bytes(), &HUB).retry_after(), None, "{text}");
    }
}

#[test]
fn bodies_from_elsewhere_stay_short_and_on_one_line() {
    let page = format!("<html>\r\n<body>Bad gateway\u{7}</body>{}", "x".repeat(5000));
    let error = error_from_http(502, None, page.as_bytes(), &HUB);
    let text = source(&error);
    assert!(
        text.contains("Bad gateway") && text.len() < 700 && !text.contains(['\n', '\r', '\u{7}']),
        "{text}"
    );
    for body in [&b"null"[..], b"[]", b"7", b"{\"Message\":7}", b"\xff\xfe", b"{\"Message\":\"{}\"}", b"\"\""]
    {
        assert_eq!(error_from_http(404, None, body, &HUB).kind(), K::NotFound);
    }
}

#[test]
fn statuses_over_amqp() {
    // What devices get (twins.md 1.4).
    let body = br#"{"errorCode":400004,"trackingId":"ab-G:1","message":"Value of Property or Tag cannot be null. Error inProperty/Tag l","timestampUtc":"2026-11-25T08:00:00Z"}"#;
    let error = error_from_twin_status(400, body, &MODULE);
    assert_eq!(
        (error.kind(), error.hub_code(), error.tracking_id(), error.status()),
        (K::InvalidInput, Some("ArgumentInvalid"), Some("ab-G:1"), Some(400))
    );
    assert!(error.to_string().contains("cannot be null") && error.to_string().contains("`mod9`"), "{error}");

    // A refused token (amqp.md 2.4).
    let text = b"The specified SAS token has an invalid signature. It does not match either the primary or secondary key..";
    let error = error_from_twin_status(401, text, &MODULE);
    assert_eq!(error.kind(), K::Unauthorized);
    assert!(source(&error).contains("invalid signature"), "{error:?}");
    let error = error_from_twin_status(404, b"Device dev7 at IotHub hub not registered.", &DEVICE);
    assert_eq!(error.kind(), K::NotFound);

    for status in [-1, 70_000, 0, 200] {
        assert_eq!(error_from_twin_status(status, b"", &DEVICE).kind(), K::Protocol, "{status}");
    }
}

/// amqp.md 6, with "(y)" of its retry columns as retryable.
#[test]
fn amqp_conditions() {
    for (condition, kind) in [
        ("amqp:internal-error", K::Unavailable),
        ("amqp:not-found", K::NotFound),
        ("amqp:unauthorized-access", K::Unauthorized),
        ("amqp:not-allowed", K::Rejected),
        ("amqp:not-implemented", K::Rejected),
        ("amqp:resource-limit-exceeded", K::QuotaExceeded),
        ("amqp:link:message-size-exceeded", K::InvalidInput),
        ("amqp:link:detach-forced", K::Unavailable),
        ("amqp:link:stolen", K::Unavailable),
        ("amqp:link:redirect", K::Protocol),
        ("amqp:connection:forced", K::Unavailable),
        ("amqp:connection:framing-error", K::Protocol),
        ("amqp:session:errant-link", K::Protocol),
        ("amqp:resource-locked", K::Unavailable),
        ("amqp:decode-error", K::Protocol),
        ("amqp:precondition-failed", K::PreconditionFailed),
        ("amqp:resource-deleted", K::NotFound),
        ("com.microsoft:timeout", K::Timeout),
        ("com.microsoft:device-container-throttled", K::Throttled),
        ("com.microsoft:argument-error", K::InvalidInput),
        ("com.microsoft:argument-out-of-range", K::InvalidInput),
        ("com.microsoft:message-lock-lost", K::PreconditionFailed),
        ("com.microsoft:iot-hub-suspended", K::Rejected),
        ("com.microsoft:iot-hub-not-found-error", K::NotFound),
        ("com.microsoft:device-already-exists", K::AlreadyExists),
        ("com.microsoft:precondition-failed", K::PreconditionFailed),
        ("com.microsoft:quota-exceeded", K::QuotaExceeded),
        ("com.microsoft:link-creation-conflict", K::Unavailable),
        ("com.example:never-heard-of", K::Protocol),
    ] {
        let error = error_from_amqp(condition, None, &DEVICE);
        assert_eq!((error.kind(), error.hub_code(), error.status()), (kind, Some(condition), None));
        let shown = format!("{error} / {}", source(&error));
        assert!(shown.contains("`dev7`") && shown.contains(condition), "{shown}");
    }
}

#[test]
fn amqp_descriptions() {
    let json = r#"{"errorCode":404006,"trackingId":"c6f7-G:2","message":"The link address 'x' did not match any of the expected formats.","timestampUtc":"2017-08-17T10:48:44.5309043Z"}"#;
    let error = error_from_amqp("amqp:not-found", Some(json), &DEVICE);
    assert_eq!(
        (error.kind(), error.hub_code(), error.status(), error.tracking_id()),
        (K::NotFound, Some("404006"), Some(404), Some("c6f7-G:2"))
    );
    assert!(source(&error).contains("did not match any of the expected formats"));

    // The code decides where it is known, or where the condition is not.
    let known =
        error_from_amqp("amqp:internal-error", Some(r#"{"errorCode":429001,"message":"slow"}"#), &DEVICE);
    assert_eq!((known.kind(), known.hub_code()), (K::Throttled, Some("ThrottlingException")));
    let unknown = error_from_amqp("com.example:new", Some(r#"{"errorCode":503999}"#), &DEVICE);
    assert_eq!((unknown.kind(), unknown.status()), (K::Unavailable, Some(503)));
    let odd = error_from_amqp("amqp:not-found", Some(r#"{"errorCode":7}"#), &DEVICE);
    assert_eq!((odd.kind(), odd.status()), (K::NotFound, None));

    // Plain, and EDGE's JSON string.
    for text in ["Token Invalid.", r#""Token Invalid.""#] {
        let error = error_from_amqp("amqp:unauthorized-access", Some(text), &MODULE);
        assert_eq!(
            (error.kind(), source(&error).as_str()),
            (K::Unauthorized, "the hub said: Token Invalid.")
        );
    }
}

#[test]
fn codes_are_found_by_name_and_number() {
    // Names are found in any case, numbers only whole.
    assert_eq!(hub_codes::by_name("devicenotfound").unwrap().number, 404_001);
    assert_eq!(hub_codes::by_number(404_001).unwrap().name, "DeviceNotFound");
    assert!(hub_codes::by_number(0).is_none());
    assert!(hub_codes::by_name("").is_none());
}

#[test]
fn context_keeps_kind_and_details() {
    let low = error_from_http(429, Some("429001"), b"busy", &HUB).with_retry_after(Duration::from_secs(3));
    let high = low.clone().context("could not read the twin");
    assert_eq!(high.to_string(), "could not read the twin");
    assert_eq!(source(&high), low.to_string());
    assert_eq!(
        (high.kind(), high.status(), high.hub_code(), high.retry_after()),
        (K::Throttled, Some(429), Some("ThrottlingException"), Some(Duration::from_secs(3)))
    );
    let shown = format!("{high:?}");
    assert!(
        shown.contains("could not read the twin") && shown.contains("busy") && shown.contains("429"),
        "{shown}"
    );
}

#[test]
fn changing_a_clone_leaves_the_other() {
    let one = Error::new(K::Closed, "closed");
    let other = one.clone().with_status(404).with_may_have_been_applied(true);
    assert_eq!((one.status(), one.may_have_been_applied()), (None, false));
    assert_eq!(
        (other.status(), other.may_have_been_applied(), other.to_string().as_str()),
        (Some(404), true, "closed")
    );
}

#[test]
fn errors_cross_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Error>();
}

#[test]
fn connections_that_fail_name_the_address() {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let error = connect_error("hub.example.net", 5671, refused);
    assert_eq!(error.kind(), K::Connect);
    assert!(error.is_retryable() && !error.may_have_been_applied());
    assert!(error.to_string().contains("could not reach hub.example.net:5671"), "{error}");
    assert!(source(&error).contains("refused"), "{error:?}");

    let not_tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
    let error = connect_error("h", 443, std::io::Error::new(std::io::ErrorKind::InvalidData, not_tls));
    assert_eq!(error.kind(), K::Connect);
    assert!(
        error.to_string().contains("h:443") && error.to_string().contains("does not speak TLS"),
        "{error}"
    );
}

#[test]
fn certificates_are_recognised_below_any_wrapping() {
    #[derive(Debug)]
    struct Wrapper(std::io::Error);
    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("client error (Connect)")
        }
    }
    impl StdError for Wrapper {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    use rustls::CertificateError as C;
    for (why, says) in [
        (
            C::UnknownIssuer,
            "is not trusted; give the CA that signed it with TlsConfig::ca_file or IOTHUB_CA_FILE",
        ),
        (C::NotValidForName, "not valid for the name hub.example.net"),
        (C::Expired, "clock"),
        (C::NotValidYet, "clock"),
    ] {
        let io = || {
            std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                rustls::Error::InvalidCertificate(why.clone()),
            )
        };
        for error in [
            connect_error("hub.example.net", 443, io()),
            connect_error("hub.example.net", 443, std::io::Error::other(io())),
            connect_error("hub.example.net", 443, Wrapper(std::io::Error::other(Wrapper(io())))),
        ] {
            assert_eq!(error.kind(), K::Certificate);
            assert!(!error.is_retryable());
            let text = error.to_string();
            assert!(text.contains("hub.example.net:443") && text.contains(says), "{text}");
        }
    }
}
