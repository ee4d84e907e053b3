//! A hub that throttles half of all calls for 30 seconds: every call succeeds, late.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt};
use iothub::service::Twin;
use iothub::{ErrorKind, Registry, RetryPolicy, TwinPatch};
use iothub_emulator::LocalHub;
use serde_json::json;

/// Longer than any other: calls wait as the hub asks them to.
const LIMIT: Duration = Duration::from_secs(150);

#[tokio::test]
async fn half_of_all_calls_throttled_and_none_is_lost() {
    let hub = LocalHub::start().await.unwrap();
    let registry =
        Registry::from_connection_string_with(&hub.connection_string(), hub.client_options()).unwrap();
    hub.hub().faults().throttle(0.5, Duration::from_secs(30));

    let all = async {
        // Creates are not repeatable in general; 429 means that nothing was done.
        let creates = join_all((0..40).map(|n| registry.create_device(format!("single{n}"))));
        let bulk = registry.create_devices((0..400).map(|n| format!("bulk{n}"))).report();
        let (creates, report) = tokio::join!(creates, bulk);
        creates.into_iter().for_each(|created| drop(created.unwrap()));
        assert_eq!((report.succeeded, report.failed.len()), (400, 0), "{:?}", report.failed.first());

        let patch = TwinPatch::new().desired(&json!({ "a": 1 }));
        let updates = join_all((0..40).map(|n| {
            let (registry, patch) = (registry.clone(), patch.clone());
            async move { registry.update_device_twin(&format!("single{n}"), &patch).await }
        }));
        let query = registry.query("SELECT * FROM devices").page_size(50).typed::<Twin>();
        let (updates, twins) = tokio::join!(updates, query.try_collect::<Vec<_>>());
        for twin in updates {
            // Each was done once.
            assert_eq!(twin.unwrap().properties.desired.version(), 2);
        }
        assert_eq!(twins.unwrap().len(), 440);
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
    assert!(hub.hub().faults().throttled() > 20, "{}", hub.hub().faults().throttled());
    assert_eq!(hub.hub().list_devices(1000).len(), 440);
}

#[tokio::test]
async fn who_does_not_want_to_wait_is_told_when_to_come_again() {
    let hub = LocalHub::start().await.unwrap();
    let registry = Registry::builder(&hub.connection_string())
        .unwrap()
        .options(hub.client_options())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    hub.hub().faults().throttle(1.0, LIMIT);
    let error = registry.create_device("d").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Throttled, Some(429)));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(10)));
    assert!(error.is_retryable() && !error.may_have_been_applied());
    hub.hub().faults().throttle_with_retry_after(1.0, LIMIT, Duration::from_secs(3));
    let items: Vec<_> = registry.query("SELECT * FROM devices").collect().await;
    assert_eq!(items[0].as_ref().unwrap_err().retry_after(), Some(Duration::from_secs(3)));
    assert!(hub.hub().list_devices(1000).is_empty());
}
