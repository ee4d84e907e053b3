#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;

fn storage(limit: u64) -> (Storage, Clock) {
    let clock = Clock::new();
    let config = StorageConfig { limit, ..StorageConfig::new("localhost") };
    (Storage::new(config, clock.clone()).unwrap(), clock)
}

/// The parts of a token as a request has them.
fn with_sas<R>(token: &str, work: impl FnOnce(&Sas<'_>) -> R) -> R {
    let decode = |text: &str| iothub_common::identity::unescape_id(text).unwrap();
    let part = |name: &str| {
        let pairs = token.trim_start_matches('?').split('&').map(|pair| pair.split_once('=').unwrap());
        pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| decode(value))
    };
    let (expiry, permissions, signature) = (part("se"), part("sp"), part("sig"));
    work(&Sas {
        expiry: expiry.as_deref(),
        permissions: permissions.as_deref(),
        signature: signature.as_deref(),
    })
}

#[test]
fn a_token_opens_one_blob_until_it_ends() {
    let (storage, clock) = storage(1000);
    let token = storage.sign("d/a", clock.now() + Duration::from_secs(60));
    let check = |container: &str, name: &str, purpose| {
        with_sas(&token, |sas| storage.check(container, name, sas, purpose)).map_err(|error| error.code)
    };
    assert_eq!(check(CONTAINER, "d/a", Purpose::Write), Ok(()));
    assert_eq!(check(CONTAINER, "d/a", Purpose::Read), Ok(()));
    assert_eq!(check(CONTAINER, "d/b", Purpose::Write), Err("AuthenticationFailed"));
    assert_eq!(check("other", "d/a", Purpose::Write), Err("ContainerNotFound"));

    let later = token.replace("&se=20", "&se=21");
    let changed = with_sas(&later, |sas| storage.check(CONTAINER, "d/a", sas, Purpose::Write)).unwrap_err();
    assert!(changed.text.contains("was changed"), "{changed}");
    let missing = storage.check(CONTAINER, "d/a", &Sas::default(), Purpose::Read).unwrap_err();
    assert!(missing.text.contains("no token"), "{missing}");
    clock.advance(Duration::from_secs(61));
    let over = with_sas(&token, |sas| storage.check(CONTAINER, "d/a", sas, Purpose::Write)).unwrap_err();
    assert!(over.text.contains("expired"), "{over}");
}

#[test]
fn blocks_become_a_blob_in_the_order_of_the_list() {
    let (storage, _) = storage(1000);
    storage.put_block("d/a", "YQ==", "one ".into()).unwrap();
    storage.put_block("d/a", "Yg==", "two ".into()).unwrap();
    assert!(storage.blob("d/a").is_none());
    assert!(storage.names().is_empty());

    let list = "<BlockList><Latest>Yg==</Latest><Latest>YQ==</Latest><Latest>Yg==</Latest></BlockList>";
    storage.put_block_list("d/a", Some("text/plain"), list).unwrap();
    let blob = storage.blob("d/a").unwrap();
    assert_eq!((blob.content(), blob.size()), ("two one two ".into(), 12));
    assert_eq!(blob.content_type, "text/plain");
    assert_eq!(storage.names(), ["d/a"]);

    // Blocks that were not used are gone, those that were can be used again.
    storage.put_block("d/a", "Yw==", "3".into()).unwrap();
    let missing = "<BlockList><Uncommitted>YQ==</Uncommitted></BlockList>";
    assert_eq!(storage.put_block_list("d/a", None, missing).unwrap_err().code, "InvalidBlockList");
    let again = "<BlockList><Committed>YQ==</Committed><Latest>Yw==</Latest></BlockList>";
    storage.put_block_list("d/a", None, again).unwrap();
    assert_eq!(storage.blob("d/a").unwrap().content(), "one 3");
}

#[test]
fn bad_blocks_and_names_are_refused() {
    let (storage, _) = storage(1000);
    for id in ["", "not base64", &"YWFh".repeat(22)] {
        assert_eq!(
            storage.put_block("d/a", id, Bytes::new()).unwrap_err().code,
            "InvalidBlobOrBlock",
            "{id}"
        );
    }
    storage.put_block("d/a", "YQ==", Bytes::new()).unwrap();
    assert!(storage.put_block("d/a", "YWFhYQ==", Bytes::new()).unwrap_err().text.contains("same length"));
    for name in ["", "d/", "d/a.", &"n".repeat(1025)] {
        assert_eq!(
            storage.put_blob(name, None, "x".into()).unwrap_err().code,
            "InvalidResourceName",
            "{name}"
        );
    }
}

#[test]
fn it_holds_no_more_than_its_limit_and_dropped_blocks_make_room() {
    let (storage, _) = storage(10);
    storage.put_blob("d/a", None, "12345678".into()).unwrap();
    assert_eq!(storage.put_blob("d/b", None, "123".into()).unwrap_err().status, 413);
    storage.put_block("d/b", "YQ==", "12".into()).unwrap();
    assert_eq!(storage.put_block("d/b", "Yg==", "1".into()).unwrap_err().code, "RequestBodyTooLarge");
    storage.drop_blocks("d/b");
    storage.put_block("d/b", "Yg==", "1".into()).unwrap();
    assert_eq!(storage.names(), ["d/a"]);
}

#[test]
fn a_token_for_a_strange_name_does_not_open_another_blob() {
    let (storage, clock) = storage(1000);
    // What is signed has its parts on lines of their own; this name would bring lines with it.
    let name = "d/x\n9999-12-31T23:59:59Z\n/uploads/devices.txt";
    assert_eq!(storage.put_blob(name, None, "x".into()).unwrap_err().code, error::bad_name().code);
    let token = storage.sign(name, clock.now() + Duration::from_secs(60));
    let forged = with_sas(&token, |sas| {
        let permissions = format!("rw\n{}\n/uploads/d/x", sas.expiry.unwrap());
        let sas = Sas { expiry: Some("9999-12-31T23:59:59Z"), permissions: Some(&permissions), ..*sas };
        storage.check(CONTAINER, "devices.txt", &sas, Purpose::Read).unwrap_err()
    });
    assert!(forged.text.contains("control characters"), "{forged}");
}

#[test]
fn a_list_that_names_a_block_many_times_is_bounded_by_what_it_makes() {
    let (storage, _) = storage(1000);
    storage.put_block("d/a", "YQ==", vec![0; 100].into()).unwrap();
    let list = |times| format!("<BlockList>{}</BlockList>", "<Latest>YQ==</Latest>".repeat(times));
    assert_eq!(storage.put_block_list("d/a", None, &list(11)).unwrap_err().code, error::full(1000).code);
    storage.put_block_list("d/a", None, &list(10)).unwrap();
    assert_eq!(storage.blob("d/a").unwrap().size(), 1000);
}
