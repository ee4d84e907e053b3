//! Who gets in. Tokens are made with the client's half of the code and, once, taken from elsewhere.

use std::time::UNIX_EPOCH;

use iothub_common::{SymmetricKey, sas};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn policy_token(hub: &Hub, name: &str, resource: &str) -> String {
    let key = &hub.policy(name).unwrap().primary;
    sas::sign(key, resource, Some(name), hub.now() + HOUR).reveal().to_owned()
}

/// A key as an identity's document shows it.
fn key(document: &Value, name: &str) -> SymmetricKey {
    SymmetricKey::from_base64(document["authentication"]["symmetricKey"][name].as_str().unwrap()).unwrap()
}

fn own_token(hub: &Hub, key: &SymmetricKey, resource: &str) -> String {
    sas::sign(key, resource, None, hub.now() + HOUR).reveal().to_owned()
}

fn device_key(hub: &Hub) -> SymmetricKey {
    key(&hub.get_device("d").unwrap(), "primaryKey")
}

fn module_key(hub: &Hub) -> SymmetricKey {
    key(&hub.get_module("d", "m").unwrap(), "primaryKey")
}

fn refusal(hub: &Hub, token: &str) -> HubError {
    hub.check_token(token).unwrap_err()
}

fn resource(path: &str) -> String {
    format!("{HOST}{path}")
}

#[test]
fn policies_have_the_rights_of_their_names() {
    let (read, write) = (Rights::REGISTRY_READ, Rights::REGISTRY_WRITE);
    let (service, device) = (Rights::SERVICE_CONNECT, Rights::DEVICE_CONNECT);
    let hub = hub();
    for (name, rights) in [
        ("iothubowner", [read, write, service, device].as_slice()),
        ("service", &[service]),
        ("device", &[device]),
        ("registryRead", &[read]),
        ("registryReadWrite", &[read, write]),
    ] {
        let grant = hub.check_token(&policy_token(&hub, name, HOST)).unwrap();
        let Who::Policy { name: who, rights: granted } = &grant.who else { panic!("{grant:?}") };
        assert_eq!(who, name);
        for right in [read, write, service, device] {
            assert_eq!(granted.contains(right), rights.contains(&right), "{name} {right:?}");
        }
        assert!(grant.covers(&resource("/devices/x")));
    }
}

#[test]
fn both_keys_of_a_policy_and_of_an_identity_are_good() {
    let (hub, device, module) = hub_with_module();
    let secondary =
        sas::sign(&hub.policy("service").unwrap().secondary, HOST, Some("service"), hub.now() + HOUR);
    assert!(hub.check_token(secondary.reveal()).is_ok());
    for name in ["primaryKey", "secondaryKey"] {
        let token = own_token(&hub, &key(&hub.get_device("d").unwrap(), name), &device.resource_uri(HOST));
        assert_eq!(hub.check_token(&token).unwrap().who, Who::Identity(device.clone()));
        let token =
            own_token(&hub, &key(&hub.get_module("d", "m").unwrap(), name), &module.resource_uri(HOST));
        assert_eq!(hub.check_token(&token).unwrap().who, Who::Identity(module.clone()));
    }
}

/// Signed by other code: `printf 'myhub.azure-devices.net%2Fdevices%2Fd\n4102444800' | openssl dgst -sha256
/// -hmac 0123456789abcdef -binary | base64`.
#[test]
fn a_token_made_elsewhere_is_good() {
    let hub = hub();
    let keys =
        json!({ "primaryKey": "MDEyMzQ1Njc4OWFiY2RlZg==", "secondaryKey": "MDEyMzQ1Njc4OWFiY2RlZg==" });
    let body = json!({ "authentication": { "symmetricKey": keys } });
    hub.put_device("d", &body, Precondition::None).unwrap();
    let token = "SharedAccessSignature se=4102444800&sr=myhub.azure-devices.net%2Fdevices%2Fd&sig=NmABxkqMMw45DVfzjtBNyX5QiOYGIkSbou4ajh9uDBA%3D";
    let grant = hub.check_token(token).unwrap();
    assert_eq!(grant.expires_at, UNIX_EPOCH + Duration::from_secs(4_102_444_800));
    assert_eq!(grant.resource, "myhub.azure-devices.net/devices/d");
    // The same signature under another spelling of the resource was not made for it.
    let error = refusal(&hub, &token.replace("%2F", "%2f"));
    assert_eq!(error.code, 401_003);
}

#[test]
fn a_wrong_key_is_refused_in_the_hubs_words() {
    let (hub, device, module) = hub_with_module();
    let wrong = SymmetricKey::generate().unwrap();
    let text = "The specified SAS token has an invalid signature. It does not match either the primary or \
                secondary key..";
    let own = refusal(&hub, &own_token(&hub, &wrong, &device.resource_uri(HOST)));
    assert_eq!((own.status, own.code, own.text.as_str()), (401, 401_003, text));
    let policy = sas::sign(&wrong, HOST, Some("service"), hub.now() + HOUR);
    let policy = refusal(&hub, policy.reveal());
    assert_eq!((policy.status, policy.code, policy.text.as_str()), (401, 401_002, text));
    // A device's key does not sign for its module, nor the other way round.
    let token = own_token(&hub, &device_key(&hub), &module.resource_uri(HOST));
    assert_eq!(refusal(&hub, &token).code, 401_003);
    let token = own_token(&hub, &module_key(&hub), &device.resource_uri(HOST));
    assert_eq!(refusal(&hub, &token).code, 401_003);
}

#[test]
fn tokens_end_by_the_hubs_clock() {
    let (hub, device, _) = hub_with_module();
    let own = own_token(&hub, &device_key(&hub), &device.resource_uri(HOST));
    let policy = policy_token(&hub, "service", HOST);
    assert!(hub.check_token(&own).is_ok() && hub.check_token(&policy).is_ok());
    hub.advance(HOUR);
    for (token, code) in [(own, 401_003), (policy, 401_002)] {
        let error = refusal(&hub, &token);
        assert_eq!(error.code, code);
        assert!(error.text.contains("expired"), "{error}");
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let hub = hub();
    let good = policy_token(&hub, "service", HOST);
    let unknown_policy = good.replace("skn=service", "skn=services");
    let nobody = own_token(&hub, &hub.policy("service").unwrap().primary, HOST);
    let elsewhere = policy_token(&hub, "service", "otherhub.azure-devices.net");
    let longer = policy_token(&hub, "service", &format!("{HOST}.evil.example"));
    for (token, says) in [
        ("", "malformed"),
        ("Bearer abc", "malformed"),
        ("SharedAccessSignature sr=a", "missing"),
        (&unknown_policy, "'services'"),
        (&nobody, "no shared access policy"),
        (&elsewhere, "otherhub"),
        (&longer, "evil"),
        (&"x".repeat(1_000_000), "at most"),
    ] {
        let error = refusal(&hub, token);
        assert_eq!((error.status, error.code), (401, 401_002), "{token}");
        assert!(error.text.contains(says), "{token}: {error}");
    }
}

#[test]
fn the_host_is_compared_without_case_scheme_and_port() {
    let hub = hub();
    for host in ["MyHub.Azure-Devices.NET", "myhub.azure-devices.net:443", "amqps://myhub.azure-devices.net/"]
    {
        let grant = hub.check_token(&policy_token(&hub, "service", host)).unwrap();
        assert!(grant.covers("MYHUB.azure-devices.net/devices"), "{host}");
        assert!(!grant.covers("otherhub.azure-devices.net/devices"), "{host}");
    }
}

/// Signed with the key's text by other code: `printf 'sb%3A%2F%2Fmyhub.azure-devices.net%2Fmyhub\n4102444800' | openssl
/// dgst -sha256 -hmac MDEyMzQ1Njc4OWFiY2RlZg== -binary | base64`.
#[test]
fn event_hubs_clients_sign_with_the_text_of_a_key() {
    let mut config = HubConfig::new(HOST).unwrap();
    let policy = config.policies.iter_mut().find(|policy| policy.name == "service").unwrap();
    policy.primary = SymmetricKey::from_base64("MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
    let hub = Hub::new(config);
    let token = "SharedAccessSignature sr=sb%3A%2F%2Fmyhub.azure-devices.net%2Fmyhub&sig=xiYhNKmHiC7UIjFddy2qmYDR7pff%2BitdeoitRyo34rA%3D&se=4102444800&skn=service";
    let grant = hub.check_token(token).unwrap();
    assert!(grant.covers("myhub.azure-devices.net/myhub/ConsumerGroups"));
    // The hub's own resources take what the text decodes to, and neither key does for the other.
    assert_eq!(
        refusal(&hub, &policy_token(&hub, "service", "sb://myhub.azure-devices.net/myhub")).code,
        401_002
    );
    let text = hub.policy("service").unwrap().primary.for_event_hub();
    let token = sas::sign(&text, HOST, Some("service"), hub.now() + HOUR);
    assert_eq!(refusal(&hub, token.reveal()).code, 401_002);
}

#[test]
fn who_is_not_registered_or_disabled_is_not_found() {
    let (hub, device, module) = hub_with_module();
    let (device_key, module_key) = (device_key(&hub), module_key(&hub));
    let tokens = [
        own_token(&hub, &device_key, &device.resource_uri(HOST)),
        own_token(&hub, &module_key, &module.resource_uri(HOST)),
    ];
    hub.delete_module("d", "m", Precondition::None).unwrap();
    let error = refusal(&hub, &tokens[1]);
    assert_eq!(error.code, 404_010);
    assert!(error.text.contains("Module m on device d"), "{error}");

    let mut disabled = hub.get_device("d").unwrap();
    disabled["status"] = "disabled".into();
    hub.put_device("d", &disabled, Precondition::IfMatch(None)).unwrap();
    assert_eq!(refusal(&hub, &tokens[0]).text, "Device d at IotHub myhub is disabled.");
    assert_eq!(refusal(&hub, &tokens[0]).code, 404_001);

    hub.delete_device("d", Precondition::None).unwrap();
    for token in &tokens {
        let error = refusal(&hub, token);
        assert_eq!((error.status, error.code), (404, 404_001));
        assert_eq!(error.text, "Device d at IotHub myhub not registered.");
    }
}

#[test]
fn who_has_no_keys_gets_in_with_none() {
    let hub = hub();
    let body = json!({ "authentication": { "type": "certificateAuthority" } });
    hub.put_device("d", &body, Precondition::None).unwrap();
    let token = own_token(&hub, &SymmetricKey::generate().unwrap(), &resource("/devices/d"));
    let error = refusal(&hub, &token);
    assert_eq!(error.code, 401_003);
    assert!(error.text.contains("certificateAuthority"), "{error}");
}

#[test]
fn a_token_is_good_for_what_is_below_it_by_segment() {
    let (hub, device, module) = hub_with_module();
    let other = Identity::device("dd").unwrap();
    let grant = hub.check_token(&own_token(&hub, &device_key(&hub), &device.resource_uri(HOST))).unwrap();
    assert!(grant.allows_identity(&device));
    assert!(grant.allows_identity(&module), "a device may act as its modules");
    assert!(!grant.allows_identity(&other));
    assert!(grant.covers(&resource("/Devices/d/messages/events")));
    assert!(!grant.covers(&resource("/devices/D/messages/events")), "ids have a case");
    assert!(!grant.covers(&resource("/devices/dd/messages/events")));
    assert!(!grant.covers(&resource("/devices")));
    assert_eq!(grant.require_identity(&other).unwrap_err().code, 401_003);

    let grant = hub.check_token(&own_token(&hub, &module_key(&hub), &module.resource_uri(HOST))).unwrap();
    assert!(grant.allows_identity(&module));
    assert!(!grant.allows_identity(&device));

    let narrow = format!("{}/messages/events", device.resource_uri(HOST));
    let grant = hub.check_token(&own_token(&hub, &device_key(&hub), &narrow)).unwrap();
    assert!(grant.covers(&narrow) && !grant.allows_identity(&device));

    let grant = hub.check_token(&policy_token(&hub, "device", &resource("/devices/d"))).unwrap();
    assert!(grant.allows_identity(&module) && !grant.allows_identity(&other));
    let grant = hub.check_token(&policy_token(&hub, "service", HOST)).unwrap();
    assert_eq!(grant.require_identity(&device).unwrap_err().code, 401_002);
}

/// Most SDKs escape the resource once as a whole, C# the ids in it first as well.
#[test]
fn odd_ids_are_found_however_they_are_escaped() {
    let hub = hub();
    for id in ["dev@1", "dev+1", "dev%2b", "100%", "$a#b'c"] {
        let device = hub.put_device(id, &json!({}), Precondition::None).unwrap();
        let module = hub.put_module(id, "$m+1", &json!({}), Precondition::None).unwrap();
        let (device_key, module_key) = (key(&device, "primaryKey"), key(&module, "primaryKey"));
        let device = Identity::device(id).unwrap();
        let module = Identity::module(id, "$m+1").unwrap();
        for (identity, key) in [(&device, &device_key), (&module, &module_key)] {
            for resource in [identity.resource_uri(HOST), format!("{HOST}{}", identity.http_path("devices"))]
            {
                let grant = hub.check_token(&own_token(&hub, key, &resource)).unwrap();
                assert_eq!(grant.who, Who::Identity(identity.clone()), "{resource}");
                assert!(grant.allows_identity(&module), "{resource}");
                assert!(grant.covers(&identity.resource_uri(HOST)), "{resource}");
            }
        }
    }
}

/// `dev+1` escaped twice reads like the plain id `dev%2B1`: the key decides.
#[test]
fn ids_that_look_like_each_other_are_told_apart() {
    let hub = hub();
    let plus = hub.put_device("dev+1", &json!({}), Precondition::None).unwrap();
    let wrong = own_token(&hub, &SymmetricKey::generate().unwrap(), &resource("/devices/dev%2B1"));
    assert_eq!(refusal(&hub, &wrong).code, 401_003, "the one that exists is meant");

    let percent = hub.put_device("dev%2B1", &json!({}), Precondition::None).unwrap();
    let [plus_id, percent_id] = ["dev+1", "dev%2B1"].map(|id| Identity::device(id).unwrap());
    for (document, id, other) in [(plus, &plus_id, &percent_id), (percent, &percent_id, &plus_id)] {
        let token = own_token(&hub, &key(&document, "primaryKey"), &resource("/devices/dev%2B1"));
        let grant = hub.check_token(&token).unwrap();
        assert_eq!(grant.who, Who::Identity(id.clone()));
        assert!(grant.allows_identity(id) && !grant.allows_identity(other), "{id}");
    }
    assert_eq!(refusal(&hub, &wrong).code, 401_003);
}

#[test]
fn nothing_shows_a_key() {
    let hub = hub();
    let config = HubConfig::new(HOST).unwrap();
    let key = config.policies[0].primary.to_base64();
    assert!(!format!("{config:?}").contains(key.reveal()));
    assert!(!format!("{hub:?}").contains("Key"));
}
