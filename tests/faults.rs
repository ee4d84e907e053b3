//! What goes wrong in the middle: links, sessions and connections that the hub ends, a peer that says nothing, keys
//! that change, tokens that end.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, SystemTime};

use iothub::{
    ClientOptions, ConnectionStatus, DeviceClient, ErrorKind, Message, ModuleClient, RetryPolicy,
    SymmetricKey, TwinPatch,
    service::{CloudMessage, DirectMethod},
};
use serde_json::json;
use support::{Bench, Cable, DEVICE, MODULE, within};

const SOON: Duration = Duration::from_millis(1);

fn quick() -> RetryPolicy {
    RetryPolicy { initial: SOON, ceiling: SOON, max_retries: None }
}

async fn cabled(bench: &Bench) -> (ModuleClient, Cable) {
    let cable = Cable::to(bench.hub.amqps_port()).await;
    let options = ClientOptions { amqps_port: Some(cable.port()), ..bench.options() };
    let builder = ModuleClient::builder(&bench.module).unwrap().options(options).retry(quick());
    (within(builder.idle_timeout(Duration::from_millis(100)).connect()).await.unwrap(), cable)
}

/// What Microsoft's own tests send to make a hub misbehave (amqp.md 7).
fn fault(operation: &str) -> Message {
    Message::from("fault")
        .property("AzIoTHub_FaultOperationType", operation)
        .property("AzIoTHub_FaultOperationCloseReason", "boom")
        .property("AzIoTHub_FaultOperationDelayInSecs", "0")
}

#[tokio::test]
async fn every_link_and_session_and_the_connection_come_back_without_losing_the_others() {
    let bench = Bench::start().await;
    let device = bench.registry.get_device(DEVICE).await.unwrap();
    let string = device.connection_string(bench.registry.host_name()).unwrap();
    let builder = DeviceClient::builder(&string).unwrap().options(bench.options()).retry(quick());
    let client = within(builder.connect()).await.unwrap();
    let mut desired = within(client.twin().desired()).await.unwrap();
    assert_eq!(within(desired.next()).await.unwrap().version(), 1);
    let mut methods = within(client.methods()).await.unwrap();
    let mut messages = within(client.messages()).await.unwrap();
    let messaging = bench.registry.messaging();

    let operations = [
        "KillAmqpTwinLinkReq",
        "KillAmqpTwinLinkResp",
        "KillAmqpMethodReqLink",
        "KillAmqpMethodRespLink",
        "KillAmqpC2DLink",
        "KillAmqpD2CLink",
        "KillAmqpCBSLinkReq",
        "KillAmqpCBSLinkResp",
        "KillAmqpSession",
        "KillAmqpConnection",
        "KillTcp",
        "ShutDownAmqp",
    ];
    for (round, operation) in operations.into_iter().enumerate() {
        // The message that asks for it is sent again if its own link goes before its confirmation.
        within(client.send(fault(operation))).await.unwrap();

        let version = within(client.twin().report(&json!({ "round": round }))).await;
        let version = match version {
            Ok(version) => version,
            // The links went under it, and it says so: repeating the same value does no harm.
            Err(error) if error.may_have_been_applied() => {
                within(client.twin().report(&json!({ "round": round }))).await.unwrap()
            }
            Err(error) => panic!("{operation}: {error:?}"),
        };
        assert!(version > round as u64, "{operation}");

        let patch = TwinPatch::new().desired(&json!({ "round": round }));
        let twin = within(bench.registry.update_device_twin(DEVICE, &patch)).await.unwrap();
        let wanted = twin.properties.desired.version();
        while within(desired.next()).await.expect(operation).version() < wanted {}

        let id = within(messaging.send_to_device(DEVICE, CloudMessage::new(operation))).await.unwrap();
        loop {
            let message = within(messages.next()).await.expect(operation);
            let expected = message.message_id().as_deref() == Some(&id);
            // An earlier one may come again when its confirmation was lost.
            if within(message.complete()).await.is_ok() && expected {
                break;
            }
        }

        let call = async {
            let method = DirectMethod::new("echo").connect_timeout(Duration::from_secs(30));
            bench.registry.invoke_device_method(DEVICE, method).await
        };
        let serve = async {
            while let Some(request) = methods.next().await {
                if request.respond(200, &()).await.is_ok() {
                    break;
                }
            }
        };
        let (response, ()) = within(async { tokio::join!(call, serve) }).await;
        assert_eq!(response.unwrap().status, 200, "{operation}");
        within(client.send(operation)).await.unwrap();
    }
    assert!(client.status().is_connected());
}

#[tokio::test]
async fn throttling_and_quota_fail_messages_and_leave_the_connection() {
    let bench = Bench::start().await;
    let device = bench.registry.get_device(DEVICE).await.unwrap();
    let string = device.connection_string(bench.registry.host_name()).unwrap();
    let client = within(DeviceClient::connect_with(&string, bench.options())).await.unwrap();
    let cases =
        [("InvokeThrottling", ErrorKind::Throttled), ("InvokeMaxMessageQuota", ErrorKind::QuotaExceeded)];
    for (operation, kind) in cases {
        let message = fault(operation).property("AzIoTHub_FaultOperationDurationInSecs", "10");
        within(client.send(message)).await.unwrap();
        let error = within(client.send("refused")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{operation}");
        assert!(client.status().is_connected());
        bench.hub.advance(Duration::from_secs(11));
        within(client.send("taken")).await.unwrap();
    }
}

#[tokio::test]
async fn a_report_is_applied_or_says_that_it_may_be() {
    let bench = Bench::start().await;
    let (client, cable) = cabled(&bench).await;
    let twin = client.twin();
    let (mut applied, mut unknown) = (0, 0);
    let cuts = async {
        for _ in 0..40 {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            cable.cut();
            tokio::task::yield_now().await;
            cable.mend();
            within(twin.get()).await.unwrap();
        }
    };
    let reports = async {
        for n in 0..400 {
            match within(twin.report(&json!({ "n": n }))).await {
                Ok(_) => applied += 1,
                Err(error) if error.may_have_been_applied() => unknown += 1,
                Err(error) => panic!("it should have waited for the connection: {error:?}"),
            }
        }
    };
    tokio::join!(cuts, reports);
    let seen = within(bench.registry.get_module_twin(DEVICE, MODULE)).await.unwrap();
    let writes = seen.properties.reported.version() - 1;
    assert!((applied..=applied + unknown).contains(&writes), "{writes} of {applied} and perhaps {unknown}");
}

#[tokio::test]
async fn a_hub_that_says_nothing_any_more_is_noticed_and_no_call_hangs() {
    let bench = Bench::start().await;
    let (client, cable) = cabled(&bench).await;
    within(client.twin().get()).await.unwrap();
    let mut changes = client.status_changes();
    cable.freeze();
    let twin = client.twin().with_timeout(Duration::from_millis(50));
    let error = within(twin.report(&json!({ "a": 1 }))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.may_have_been_applied(), "it was sent");
    // Twice the idle time-out, and the connection is given up.
    while !matches!(within(changes.next()).await.unwrap(), ConnectionStatus::Retrying { .. }) {}
    within(client.close()).await;
    assert!(client.status().is_closed());
}

#[tokio::test]
async fn keys_that_were_changed_end_the_client_with_a_reason_once_it_must_show_its_token() {
    let bench = Bench::start().await;
    let (client, cable) = cabled(&bench).await;
    let mut module = within(bench.registry.get_module(DEVICE, MODULE)).await.unwrap();
    let new = || Some(SymmetricKey::generate().unwrap().to_base64());
    let keys = &mut module.authentication.symmetric_key;
    (keys.primary_key, keys.secondary_key) = (new(), new());
    within(bench.registry.update_module(&module)).await.unwrap();
    // What is up stays up.
    within(client.twin().get()).await.ok();
    cable.cut();
    cable.mend();
    let error = within(client.closed()).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn tokens_are_renewed_without_anybody_noticing() {
    let bench = Bench::start().await;
    let connection: iothub_common::DeviceConnectionString = bench.module.parse().unwrap();
    let iothub_common::Credential::SharedAccessKey(key) = connection.credential().clone() else { panic!() };
    let resource = connection.identity().resource_uri(connection.host_name());
    let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
    let builder = ModuleClient::builder_for(connection.host_name(), DEVICE, MODULE).unwrap();
    let builder = builder.options(bench.options()).sas_provider(move |_| {
        asked.send(()).ok();
        // Two seconds are the shortest that whole seconds allow.
        let token =
            iothub_common::sas::sign(&key, &resource, None, SystemTime::now() + Duration::from_secs(2));
        async move { Ok::<_, std::io::Error>(token) }
    });
    let client = within(builder.connect()).await.unwrap();
    let mut changes = client.status_changes();
    assert!(within(changes.next()).await.unwrap().is_connected());
    let mut desired = within(client.twin().desired()).await.unwrap();
    let mut version = 1;
    assert_eq!(within(desired.next()).await.unwrap().version(), version);
    let mut renewals = 0;
    while renewals < 4 {
        renewals += usize::from(asks.try_recv().is_ok());
        within(client.send("steady")).await.unwrap();
        within(client.twin().report(&json!({ "renewals": renewals }))).await.unwrap();
        let patch = TwinPatch::new().desired(&json!({ "n": version }));
        within(bench.registry.update_module_twin(DEVICE, MODULE, &patch)).await.unwrap();
        version += 1;
        assert_eq!(
            within(desired.next()).await.unwrap().version(),
            version,
            "nothing missed, nothing doubled"
        );
    }
    assert!(futures_util::future::FutureExt::now_or_never(changes.next()).is_none(), "no status change");
}

#[tokio::test]
async fn two_clients_with_one_identity_are_told_and_one_of_them_gives_way() {
    let bench = Bench::start().await;
    let connect = || async {
        let builder = ModuleClient::builder(&bench.module).unwrap().options(bench.options()).retry(quick());
        let client = within(builder.connect()).await.unwrap();
        let methods = within(client.methods()).await.unwrap();
        (client, methods)
    };
    let (first, _first_methods) = connect().await;
    let mut changes = first.status_changes();
    let (second, _second_methods) = connect().await;
    while !matches!(within(changes.next()).await.unwrap(), ConnectionStatus::Displaced { .. }) {}
    let loser = tokio::select! {
        error = first.closed() => error,
        error = within(second.closed()) => error,
    };
    let text = loser.unwrap().to_string();
    assert!(text.contains("took over"), "{text}");
}
