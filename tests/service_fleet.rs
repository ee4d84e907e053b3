//! Many devices: all are listed and found, whatever the page size, and bulks name what they could not do.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt};
use iothub::service::{BulkItem, Page, Twin};
use iothub::{Device, ErrorKind, NewDevice, Registry};
use iothub_emulator::LocalHub;
use iothub_emulator::hub::Precondition;
use serde_json::json;
use support::within;

const MANY: usize = 2_500;

async fn hub() -> (LocalHub, Registry) {
    let hub = LocalHub::start().await.unwrap();
    let registry =
        Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
    (hub, registry)
}

fn name(n: usize) -> String {
    format!("d{n:04}")
}

/// A hub with 2,500 devices, made without calls.
async fn fleet() -> (LocalHub, Registry) {
    let (hub, registry) = hub().await;
    for n in 0..MANY {
        hub.hub().put_device(&name(n), &json!({ "deviceId": name(n) }), Precondition::None).unwrap();
    }
    (hub, registry)
}

fn everybody() -> BTreeSet<String> {
    (0..MANY).map(name).collect()
}

#[tokio::test]
async fn identities_beyond_the_first_thousand_are_listed_with_their_keys() {
    let (_hub, registry) = fleet().await;
    let devices: Vec<Device> = within(registry.list_devices().try_collect()).await.unwrap();
    assert_eq!(devices.len(), MANY);
    assert_eq!(devices.iter().map(|device| device.device_id.clone()).collect::<BTreeSet<_>>(), everybody());
    assert!(devices.iter().all(|device| device.authentication.symmetric_key.primary_key.is_some()));
}

#[tokio::test]
async fn queries_give_every_twin_once_at_every_page_size() {
    let (_hub, registry) = fleet().await;
    for size in [Some(1), Some(100), Some(1000), None] {
        let mut query = registry.query("SELECT * FROM devices").typed::<Twin>();
        if let Some(size) = size {
            query = query.page_size(size);
        }
        let ids: Vec<String> = within(query.map_ok(|twin| twin.device_id).try_collect()).await.unwrap();
        assert_eq!(ids.len(), MANY, "{size:?}");
        assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), everybody(), "{size:?}");
    }
}

#[tokio::test]
async fn a_page_has_what_was_asked_for_and_the_last_no_token() {
    let (_hub, registry) = fleet().await;
    let query = registry.query("SELECT deviceId FROM devices WHERE deviceId < 'd0007'").page_size(3);
    let pages: Vec<Page> = within(query.pages().try_collect()).await.unwrap();
    assert_eq!(pages.iter().map(|page| page.items.len()).collect::<Vec<_>>(), [3, 3, 1]);
    assert_eq!(pages.iter().map(|page| page.token.is_some()).collect::<Vec<_>>(), [true, true, false]);
}

#[tokio::test]
async fn a_token_goes_on_in_a_registry_of_its_own() {
    let (hub, registry) = fleet().await;
    const SQL: &str = "SELECT * FROM devices";
    let mut pages = registry.query(SQL).typed::<Twin>().page_size(100).pages();
    let (mut seen, mut token) = (Vec::new(), None);
    for _ in 0..7 {
        let page = within(pages.next()).await.unwrap().unwrap();
        seen.extend(page.items.into_iter().map(|twin| twin.device_id));
        token = page.token;
    }
    drop((pages, registry));

    let other =
        Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
    let rest = other.query(SQL).typed::<Twin>().page_size(1000).from_token(token.unwrap());
    let rest: Vec<String> = within(rest.map_ok(|twin| twin.device_id).try_collect()).await.unwrap();
    assert_eq!(seen.len() + rest.len(), MANY);
    assert_eq!(seen.into_iter().chain(rest).collect::<BTreeSet<_>>(), everybody());
}

#[tokio::test]
async fn two_hundred_and_fifty_with_three_duplicates_and_two_bad_ids() {
    let (hub, registry) = hub().await;
    let mut ids: Vec<String> = (0..245).map(name).collect();
    // Each second time, the first ones far away, the last one in the same call.
    ids.insert(100, name(3));
    ids.insert(200, name(150));
    ids.insert(247, name(244));
    ids.insert(50, "no spaces".to_owned());
    ids.insert(120, "no/slashes".to_owned());
    assert_eq!(ids.len(), 250);

    let report = within(registry.create_devices(ids.clone()).report()).await;
    assert_eq!(report.succeeded, 245);
    let mut failed: Vec<(&str, &str)> = report
        .failed
        .iter()
        .map(|failed| {
            assert_eq!(ids[failed.index], failed.device_id);
            let error = failed.result.as_ref().unwrap_err();
            assert!(!error.may_have_been_applied());
            (failed.device_id.as_str(), error.hub_code().unwrap())
        })
        .collect();
    failed.sort_unstable();
    let exists = "DeviceAlreadyExists";
    assert_eq!(
        failed,
        [
            ("d0003", exists),
            ("d0150", exists),
            ("d0244", exists),
            ("no spaces", "ArgumentInvalid"),
            ("no/slashes", "ArgumentInvalid"),
        ]
    );
    assert_eq!(hub.hub().list_devices(1000).len(), 245);
}

#[tokio::test]
async fn a_bulk_that_was_interrupted_goes_on_where_it_was() {
    let (hub, registry) = hub().await;
    let items =
        || (0..500).flat_map(|n| [BulkItem::create_device(name(n)), BulkItem::add_module(name(n), "m")]);
    let first: Vec<_> = within(registry.bulk(items()).take(150).collect()).await;
    assert!(first.iter().all(|result| result.result.is_ok()));

    let report = within(registry.bulk(items()).report()).await;
    assert_eq!(report.succeeded + report.failed.len(), 1000);
    assert!(report.failed.len() >= 150, "{}", report.failed.len());
    for failed in &report.failed {
        assert_eq!(failed.result.as_ref().unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
    for n in 0..500 {
        assert_eq!(hub.hub().list_modules(&name(n)).unwrap().len(), 1);
    }
}

#[tokio::test]
async fn bulks_create_change_and_delete_devices_and_modules() {
    let (hub, registry) = hub().await;
    let create = (0..60).flat_map(|n| {
        [
            BulkItem::create_device(NewDevice::new(name(n))),
            BulkItem::add_module(name(n), "m1"),
            BulkItem::add_module(name(n), "m2"),
        ]
    });
    let report = within(registry.bulk(create).report()).await;
    assert_eq!((report.succeeded, report.failed.len()), (180, 0), "{:?}", report.failed.first());
    for n in 0..60 {
        assert_eq!(hub.hub().list_modules(&name(n)).unwrap().len(), 2);
    }

    // Changes of what was read; one of them is overtaken.
    let mut devices: Vec<Device> = within(registry.list_devices().try_collect()).await.unwrap();
    devices.iter_mut().for_each(|device| device.status_reason = Some("checked".to_owned()));
    let overtaken = within(registry.change_device("d0007", |device| device.status_reason = None)).await;
    overtaken.unwrap();
    let items: Vec<_> = devices.iter().map(BulkItem::update_device).collect();
    let report = within(registry.bulk(items).report()).await;
    assert_eq!((report.succeeded, report.failed.len()), (59, 1));
    assert_eq!(report.failed[0].device_id, "d0007");
    assert_eq!(report.failed[0].result.as_ref().unwrap_err().hub_code(), Some("PreconditionFailed"));
    // Nothing but the reason is another.
    let key = |device: &Device| {
        device.authentication.symmetric_key.primary_key.clone().map(|key| key.reveal().to_owned())
    };
    let read = within(registry.get_device("d0008")).await.unwrap();
    assert_eq!(read.status_reason.as_deref(), Some("checked"));
    assert_eq!(key(&read), devices.iter().find(|device| device.device_id == "d0008").and_then(key));

    let delete = (0..60).map(|n| BulkItem::delete_module(name(n), "m1"));
    let report = within(registry.bulk(delete).report()).await;
    assert_eq!((report.succeeded, report.failed.len()), (60, 0));
    assert_eq!(hub.hub().list_modules("d0000").unwrap().len(), 1);

    let report = within(registry.delete_devices((0..61).map(name)).report()).await;
    assert_eq!((report.succeeded, report.failed.len()), (60, 1));
    assert_eq!(report.failed[0].result.as_ref().unwrap_err().hub_code(), Some("DeviceNotFound"));
    assert!(hub.hub().list_devices(1000).is_empty());
}
