#![allow(clippy::unwrap_used)]

use super::*;
use crate::connection_string::Credential;
use crate::error::ErrorKind;
use crate::identity::Identity;

const KEY: &str = "a2V5IG9mIGEgZGV2aWNlIGZvciB0ZXN0cw==";
const KEY_64: &str =
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";
/// Longer than the hash's block, which HMAC treats in another way.
const KEY_100: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiYw==";

/// Key, resource, policy, expiry, token. Computed with Python's hmac, hashlib and urllib.parse.quote.
const VECTORS: &[(&str, &str, Option<&str>, u64, &str)] = &[
    (
        KEY,
        "myhub.example.net",
        Some("iothubowner"),
        1_700_000_000,
        "SharedAccessSignature sr=myhub.example.net&sig=NJYPv5HgKZcc0hqCJXIBWLfj9pRO4yiFavtbbew3Vxs%3D&se=1700000000&skn=iothubowner",
    ),
    (
        KEY,
        "myhub.example.net",
        Some("my policy&co"),
        1_700_000_000,
        "SharedAccessSignature sr=myhub.example.net&sig=NJYPv5HgKZcc0hqCJXIBWLfj9pRO4yiFavtbbew3Vxs%3D&se=1700000000&skn=my%20policy%26co",
    ),
    (
        KEY,
        "myhub.example.net/devices/dev-1",
        None,
        1_893_456_000,
        "SharedAccessSignature sr=myhub.example.net%2Fdevices%2Fdev-1&sig=2MpQ1ux8Ds0eiFWpWQ%2FE5OZW0MI4UN7cHhDOVfnuJVo%3D&se=1893456000",
    ),
    (
        KEY,
        "myhub.example.net/devices/dev-1/modules/mod.1",
        None,
        1_893_456_000,
        "SharedAccessSignature sr=myhub.example.net%2Fdevices%2Fdev-1%2Fmodules%2Fmod.1&sig=wmbrEyOyu%2FIgTKbYsHCgPvXMK3zA%2BUrGE9PI2h4IYro%3D&se=1893456000",
    ),
    (
        KEY,
        "localhost/devices/d@1",
        None,
        1_893_456_000,
        "SharedAccessSignature sr=localhost%2Fdevices%2Fd%401&sig=s%2FGVpdvq1KcHN%2B1V%2FxB4jCJMFJNmej2sSSb6dVO0XRs%3D&se=1893456000",
    ),
    (
        KEY,
        "h.example.net/devices/dev%2b/modules/$edgeHub",
        None,
        1_893_456_000,
        "SharedAccessSignature sr=h.example.net%2Fdevices%2Fdev%252b%2Fmodules%2F%24edgeHub&sig=WZDnE13ytvXA78OCrKGCDoqoU7a8WzAnvY7vqJhzpBQ%3D&se=1893456000",
    ),
    (
        KEY,
        "h.example.net/devices/dev+1/modules/x#y?z",
        None,
        1_893_456_000,
        "SharedAccessSignature sr=h.example.net%2Fdevices%2Fdev%2B1%2Fmodules%2Fx%23y%3Fz&sig=YitDXnTAllZ%2BkKhmUSIJZEY6PMoES6AthoEOiEpFYyQ%3D&se=1893456000",
    ),
    (
        KEY,
        "h.example.net/devices/a:b(c)!*',=;d_",
        None,
        1_893_456_000,
        "SharedAccessSignature sr=h.example.net%2Fdevices%2Fa%3Ab%28c%29%21%2A%27%2C%3D%3Bd_&sig=RagxVaTe0d3KUlOjf6TuIBZxQAL%2BrICYN6kyEMemz7I%3D&se=1893456000",
    ),
    (
        KEY_64,
        "h.example.net",
        None,
        1,
        "SharedAccessSignature sr=h.example.net&sig=nC0VXOtCUplNBB4vo5k1hTelp1ky8iVH9ybmYUOZe5o%3D&se=1",
    ),
    (
        KEY_100,
        "h.example.net",
        None,
        1,
        "SharedAccessSignature sr=h.example.net&sig=1QtN4Qtk64vU36bRUH7KL5WBuuRqLrh%2FhGXiFsOndN8%3D&se=1",
    ),
];

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn key(text: &str) -> SymmetricKey {
    SymmetricKey::from_base64(text).unwrap()
}

#[test]
fn tokens_are_those_of_an_independent_signer() {
    for (k, resource, policy, expires, token) in VECTORS {
        // Parts of a second are cut.
        let time = at(*expires) + Duration::from_millis(999);
        assert_eq!(sign(&key(k), resource, *policy, time).reveal(), *token);
    }
}

#[test]
fn tokens_are_read_and_verified() {
    for (k, resource, policy, expires, token) in VECTORS {
        let token = SasToken::parse(token).unwrap();
        assert_eq!(token.resource, *resource);
        assert_eq!(token.expires_at, at(*expires));
        assert_eq!(token.policy.as_deref(), *policy);
        assert!(token.verify(&key(k)));
        assert!(!token.verify(&key("b3RoZXI=")));
    }
}

#[test]
fn an_identity_signs_for_itself_and_survives_decoding_once() {
    let identity = Identity::module("dev%2b", "$edgeHub").unwrap();
    let token = sign(&key(KEY), &identity.resource_uri("h.example.net"), None, at(9));
    let token = SasToken::parse(token.reveal()).unwrap();
    assert_eq!(token.resource, "h.example.net/devices/dev%2b/modules/$edgeHub");
    assert_eq!(token.raw_resource, identity.audience("h.example.net"));
}

#[test]
fn pairs_come_in_any_order_with_strangers_among_them() {
    let (.., token) = VECTORS[0];
    let (sr, rest) = token.strip_prefix("SharedAccessSignature ").unwrap().split_once('&').unwrap();
    let mut pairs: Vec<&str> = rest.split('&').chain([sr, "future=1"]).collect();
    pairs.reverse();
    let shuffled = SasToken::parse(&format!("sharedaccesssignature  {}", pairs.join("&"))).unwrap();
    assert!(shuffled.verify(&key(KEY)));
    assert_eq!(shuffled.policy.as_deref(), Some("iothubowner"));
}

#[test]
fn a_changed_token_does_not_verify() {
    let (.., token) = VECTORS[2];
    for (old, new) in [("dev-1", "dev-2"), ("se=1893456000", "se=1893456001"), ("sig=2Mp", "sig=2Mq")] {
        let changed = token.replace(old, new);
        assert_ne!(changed, token);
        assert!(!SasToken::parse(&changed).unwrap().verify(&key(KEY)), "{changed}");
    }
    // Written with another escape it is the same resource, but not what was signed.
    let respelled = SasToken::parse(&token.replace("%2F", "%2f")).unwrap();
    assert_eq!(respelled.resource, "myhub.example.net/devices/dev-1");
    assert!(!respelled.verify(&key(KEY)));
}

#[test]
fn malformed_tokens_are_refused_without_repeating_them() {
    for (text, says) in [
        ("", "start with"),
        ("Bearer sr=h&sig=c2ln&se=1", "start with"),
        ("SharedAccessSignature", "start with"),
        ("SharedAccessSignaturesr=h&sig=c2ln&se=1", "start with"),
        ("SharedAccessSignature sig=c2ln&se=1", "`sr` is missing"),
        ("SharedAccessSignature sr=h&se=1", "`sig` is missing"),
        ("SharedAccessSignature sr=h&sig=c2ln", "`se` is missing"),
        ("SharedAccessSignature sr=&sig=c2ln&se=1", "`sr` is missing"),
        ("SharedAccessSignature sr=h&sig=c2ln&se=1&sr=h", "`sr` is there twice"),
        ("SharedAccessSignature sr=h&sig=c2ln&se=soon", "`se` is not a whole number"),
        ("SharedAccessSignature sr=h&sig=c2ln&se=-1", "`se` is not a whole number"),
        ("SharedAccessSignature sr=h&sig=c2l&se=1", "`sig` is not valid base64"),
        ("SharedAccessSignature sr=%FF&sig=c2ln&se=1", "`sr` is not UTF-8"),
        ("SharedAccessSignature sr=h&sig=c2ln&se=1&c2ln", "name=value"),
    ] {
        let error = SasToken::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(says) && !shown.contains("c2l"), "{text}: {shown}");
    }
}

#[test]
fn an_expiry_beyond_all_clocks_is_never() {
    let token = SasToken::parse(&format!("SharedAccessSignature sr=h&sig=c2ln&se={}", u64::MAX)).unwrap();
    assert!(!token.is_expired(at(4_000_000_000)));
    let token = SasToken::parse("SharedAccessSignature sr=h&sig=c2ln&se=100").unwrap();
    assert!(!token.is_expired(at(99)));
    assert!(token.is_expired(at(100)));
}

#[test]
fn debug_output_has_no_signature() {
    let (.., text) = VECTORS[0];
    let token = SasToken::parse(text).unwrap();
    let source = TokenSource::new(Credential::SharedAccessSignature(text.into()), "h", None).unwrap();
    for shown in [format!("{token:?}"), format!("{source:?}"), format!("{:?}", source.token(at(0)).unwrap())]
    {
        assert!(!shown.contains("NJYP"), "{shown}");
    }
}

#[test]
fn a_key_gives_hour_long_tokens_until_four_fifths_are_over() {
    let source =
        TokenSource::new(Credential::SharedAccessKey(key(KEY)), "myhub.example.net", Some("iothubowner"))
            .unwrap();
    let first = source.token(at(1_699_996_400)).unwrap();
    assert_eq!(first.secret.reveal(), VECTORS[0].4);
    assert_eq!((first.expires_at, first.renew_at), (at(1_700_000_000), at(1_699_999_280)));

    let later = source.clone().token(at(1_699_999_279)).unwrap();
    assert_eq!(later.secret, first.secret);
    let renewed = source.token(at(1_699_999_280)).unwrap();
    assert_eq!(renewed.expires_at, at(1_700_002_880));
    assert_ne!(renewed.secret, first.secret);
}

#[test]
fn a_clock_that_was_set_back_gets_a_new_token() {
    let source = TokenSource::new(Credential::SharedAccessKey(key(KEY)), "h.example.net", None).unwrap();
    source.token(at(2_000_000_000)).unwrap();
    assert_eq!(source.token(at(1_700_000_000)).unwrap().expires_at, at(1_700_003_600));
}

#[test]
fn a_ready_made_token_is_passed_on_until_it_expires() {
    let (.., text) = VECTORS[2];
    let source = TokenSource::new(Credential::SharedAccessSignature(text.into()), "ignored", None).unwrap();
    let token = source.token(at(1_893_455_999)).unwrap();
    assert_eq!(token.secret.reveal(), text);
    assert_eq!((token.expires_at, token.renew_at), (at(1_893_456_000), at(1_893_456_000)));

    for (now, ago) in [(0, "0 s"), (119, "119 s"), (600, "10 min"), (7_200, "2 h"), (864_000, "10 days")] {
        let error = source.token(at(1_893_456_000 + now)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        let shown = error.to_string();
        assert!(shown.contains(&format!("expired {ago} ago")) && shown.contains("clock"), "{shown}");
    }
}

#[test]
fn a_signature_from_elsewhere_gives_the_same_token() {
    let (key_text, resource, _, expiry, token) = VECTORS[3];
    let unsigned = Unsigned::new(resource, at(expiry));
    assert_eq!(unsigned.to_sign(), "myhub.example.net%2Fdevices%2Fdev-1%2Fmodules%2Fmod.1\n1893456000");
    let signature = "wmbrEyOyu/IgTKbYsHCgPvXMK3zA+UrGE9PI2h4IYro=";
    assert_eq!(unsigned.with_signature(signature, None).reveal(), token);
    assert_eq!(sign(&key(key_text), resource, None, at(expiry)).reveal(), token);
}

#[test]
fn a_given_token_is_replaced_at_four_fifths_of_what_is_left_of_it() {
    let given = |expiry: &str| {
        let text = format!("SharedAccessSignature sr=h&sig=AA%3D%3D&se={expiry}");
        Token::given(text.into(), at(1_000))
    };
    let token = given("2000").unwrap();
    assert_eq!((token.expires_at, token.renew_at), (at(2_000), at(1_800)));
    // Nobody lives to see it, and nothing overflows.
    given(&u64::MAX.to_string()).unwrap();
    given(&i64::MAX.to_string()).unwrap();
    for (expiry, ago) in [("1000", "0 s"), ("400", "10 min")] {
        let error = given(expiry).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(error.to_string().contains(&format!("expired {ago} ago")), "{error}");
        assert!(error.to_string().contains("clock"), "{error}");
    }
    assert_eq!(given("soon").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn no_token_from_x509_or_from_nonsense() {
    let error = TokenSource::new(Credential::X509, "h", None).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("x509"), "{error}");
    let error =
        TokenSource::new(Credential::SharedAccessSignature("nonsense".into()), "h", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn one_key_signs_for_the_hub_and_its_event_hub() {
    let key = key(KEY);
    let credential = Credential::SharedAccessKey(key.clone());
    let hub = TokenSource::new(credential, "hub.example.net", Some("service")).unwrap();
    hub.token(at(0)).unwrap();
    let events = hub.for_event_hub("sb://ns.example.net/events").token(at(0)).unwrap();
    // Computed with Python's hmac, with the text of the key.
    let expected = "SharedAccessSignature sr=sb%3A%2F%2Fns.example.net%2Fevents&sig=8rRifKvhWNIor4pCd%2FC9d3d2kD4UWh4MwFj5%2FBlNjbE%3D&se=3600&skn=service";
    assert_eq!(events.secret.reveal(), expected);
    let still = SasToken::parse(hub.token(at(0)).unwrap().secret.reveal()).unwrap();
    assert_eq!(still.resource, "hub.example.net");
}

#[test]
fn a_token_of_any_kind_is_passed_on_until_it_expires() {
    let token = Token { secret: Secret::from("Bearer x".to_owned()), expires_at: at(60), renew_at: at(30) };
    let source = TokenSource::of_token(token);
    assert_eq!(source.token(at(59)).unwrap().secret.reveal(), "Bearer x");
    assert_eq!(source.token(at(59)).unwrap().renew_at, at(30));
    assert_eq!(source.for_event_hub("other").token(at(0)).unwrap().secret.reveal(), "Bearer x");
    assert_eq!(source.token(at(60)).unwrap_err().kind(), ErrorKind::Unauthorized);
}
