//! File uploads: the three steps and the one call, through the real sockets of the local hub and its storage.
#![allow(clippy::unwrap_used)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/connect_proxy.rs"]
mod connect_proxy;
mod support;

use std::{
    error::Error as _,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::stream;
use iothub::{
    ClientOptions, ErrorKind, NewDevice, SymmetricKey, Transport,
    device::{DeviceClient, UploadOptions, UploadProgress, UploadSource},
    service::NewAuthentication,
};
use iothub_emulator::hub::Inbox;
use serde_json::Value;
use support::{Bench, DEVICE, within};
use tokio::io::{AsyncRead, ReadBuf};

/// A hub and its device. The token is good for a day, so that the hub's clock can be moved.
async fn device() -> (Bench, DeviceClient) {
    let bench = Bench::start().await;
    let device = bench.registry.get_device(DEVICE).await.unwrap();
    let string = device.connection_string(bench.registry.host_name()).unwrap();
    let key = SymmetricKey::from_base64(string.split_once("SharedAccessKey=").unwrap().1).unwrap();
    let until = SystemTime::now() + Duration::from_secs(24 * 3600);
    let token = iothub_common::sas::sign(&key, &format!("localhost/devices/{DEVICE}"), None, until);
    let string = format!("HostName=localhost;DeviceId={DEVICE};SharedAccessSignature={}", token.reveal());
    let client = within(DeviceClient::connect_with(&string, bench.options())).await.unwrap();
    (bench, client)
}

/// What services are told, if they are told anything.
fn notification(bench: &Bench) -> Option<Value> {
    let notice = bench.hub.hub().receive_notice(Inbox::FileNotifications)?;
    Some(serde_json::from_slice(&notice.item.body).unwrap())
}

fn content(bench: &Bench, name: &str) -> Vec<u8> {
    bench.hub.uploaded_file(&format!("{DEVICE}/{name}")).expect("the file is there").content().to_vec()
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n / 251 + n % 251) as u8).collect()
}

#[tokio::test]
async fn a_small_file_goes_up_and_services_hear_of_it() {
    let (bench, client) = device().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("today.txt");
    std::fs::write(&path, "all is well").unwrap();
    let options = UploadOptions::default().content_type("text/plain");
    let upload = client.upload_file_with("logs/to day#.txt", UploadSource::file(&path), &options);
    let file = within(upload).await.unwrap();

    let host = format!("localhost:{}", bench.hub.https_port());
    assert_eq!(file.blob_name, format!("{DEVICE}/logs/to day#.txt"));
    assert_eq!(file.blob_uri, format!("https://{host}/uploads/{DEVICE}/logs/to%20day%23.txt"));
    assert_eq!(file.size, 11);
    assert_eq!(content(&bench, "logs/to day#.txt"), b"all is well");
    assert_eq!(bench.hub.uploaded_file(&file.blob_name).unwrap().content_type, "text/plain");
    let told = notification(&bench).unwrap();
    assert_eq!(told["blobUri"], *file.blob_uri);
    assert_eq!((&told["deviceId"], &told["blobSizeInBytes"]), (&DEVICE.into(), &11.into()));
    client.close().await;
}

#[tokio::test]
async fn the_service_half_is_notified_and_a_provider_signs_once() {
    let bench = Bench::start().await;
    let device = bench.registry.get_device(DEVICE).await.unwrap();
    let string = device.connection_string(bench.registry.host_name()).unwrap();
    let key = SymmetricKey::from_base64(string.split_once("SharedAccessKey=").unwrap().1).unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let client =
        DeviceClient::builder_for("localhost", DEVICE).unwrap().options(bench.options()).sas_provider({
            let asked = asked.clone();
            move |request| {
                asked.fetch_add(1, Ordering::SeqCst);
                let until = SystemTime::now() + Duration::from_secs(3600);
                let token = iothub_common::sas::sign(&key, request.resource(), None, until);
                async move { Ok::<_, iothub::Error>(token) }
            }
        });
    let client = within(client.connect()).await.unwrap();
    let messaging = bench.registry.messaging();
    let mut notifications = within(messaging.file_notifications()).await.unwrap();
    for name in ["a.txt", "b.txt"] {
        within(client.upload_file(name, name.to_owned())).await.unwrap();
        let told = within(notifications.next()).await.unwrap().unwrap();
        assert_eq!((told.device_id.as_str(), told.blob_size), (DEVICE, 5));
        assert_eq!(told.blob_name, format!("{DEVICE}/{name}"));
        within(told.complete()).await.unwrap();
    }
    // For AMQP, and for HTTPS.
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    client.close().await;
}

#[tokio::test]
async fn a_device_with_a_certificate_uploads() {
    let bench = Bench::start().await;
    let shown = certificates::self_signed("certified");
    let thumbprints = NewAuthentication::Thumbprints { primary: shown.sha256.clone(), secondary: None };
    bench.registry.create_device(NewDevice::new("certified").authentication(thumbprints)).await.unwrap();
    let client = DeviceClient::builder_for("localhost", "certified").unwrap().options(bench.options());
    let client = client.x509(&shown.certificate, &shown.key).unwrap();
    let client = within(client.connect()).await.unwrap();
    within(client.upload_file("a", "hello".to_owned())).await.unwrap();
    assert_eq!(bench.hub.uploaded_file("certified/a").unwrap().content(), "hello");
    client.close().await;
}

#[tokio::test]
async fn the_hub_and_its_storage_are_reached_through_the_proxy() {
    let bench = Bench::start().await;
    let device = bench.registry.get_device(DEVICE).await.unwrap();
    let string = device.connection_string(bench.registry.host_name()).unwrap();
    let office = connect_proxy::ConnectProxy::start(bench.hub.https_port()).await;
    let options = ClientOptions { proxy: Some(office.proxy()), ..bench.options() };
    let builder = DeviceClient::builder(&string).unwrap().options(options);
    let client = within(builder.transport(Transport::AmqpWebSocket).connect()).await.unwrap();
    within(client.upload_file("a", "hello".to_owned())).await.unwrap();
    assert_eq!(content(&bench, "a"), b"hello");
    // A WebSocket, the hub's REST and the storage.
    let here = format!("localhost:{}", bench.hub.https_port());
    assert_eq!(office.asked(), [here.as_str(); 3]);
    client.close().await;
}

#[tokio::test]
async fn a_large_one_goes_up_in_blocks_with_progress() {
    let (bench, client) = device().await;
    let whole = pattern(10_500);
    // 2,000 bytes make two blocks and nothing after them, 1,000 one without a list.
    for (length, block_sizes) in [(10_500, 1000), (2_000, 1000), (1_000, 1000), (0, 1000), (10_500, 7)] {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let options = UploadOptions::default().block_size(block_sizes).parallel(3).on_progress({
            let reports = reports.clone();
            move |progress: UploadProgress| reports.lock().unwrap().push((progress.sent, progress.total))
        });
        let pieces = whole[..length].chunks(777).map(|piece| Ok::<_, io::Error>(piece.to_vec()));
        let source = UploadSource::stream(stream::iter(pieces.collect::<Vec<_>>())).with_size(length as u64);
        let file = within(client.upload_file_with("large", source, &options)).await.unwrap();
        assert_eq!(file.size, length as u64);
        assert!(content(&bench, "large") == whole[..length], "{length} bytes in blocks of {block_sizes}");
        let reports = reports.lock().unwrap();
        let total = Some(length as u64);
        assert_eq!((reports[0], *reports.last().unwrap()), ((0, total), (length as u64, total)));
        assert!(reports.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{reports:?}");
        assert_eq!(reports.len(), 1 + length.div_ceil(block_sizes).max(1));
    }
    client.close().await;
}

/// Gives zeros and counts them.
struct Zeros {
    left: usize,
    read: Arc<AtomicU64>,
}

impl AsyncRead for Zeros {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = to.remaining().min(self.left);
        to.put_slice(&vec![0; size]);
        self.left -= size;
        self.read.fetch_add(size as u64, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_source_is_read_no_further_than_a_few_blocks_ahead() {
    const BLOCK: u64 = 64 * 1024;
    let (bench, client) = device().await;
    let (read, ahead) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let options = UploadOptions::default().block_size(BLOCK as usize).parallel(4).on_progress({
        let (read, ahead) = (read.clone(), ahead.clone());
        // At most four are under way and one is being read.
        move |progress| {
            ahead.fetch_max(read.load(Ordering::SeqCst) - progress.sent, Ordering::SeqCst);
        }
    });
    let source = UploadSource::reader(Zeros { left: 200 * BLOCK as usize, read });
    let file = within(client.upload_file_with("zeros", source, &options)).await.unwrap();
    assert_eq!(file.size, 200 * BLOCK);
    assert_eq!(bench.hub.uploaded_file(&file.blob_name).unwrap().size(), 200 * BLOCK);
    assert!(ahead.load(Ordering::SeqCst) <= 5 * BLOCK, "{ahead:?}");
    client.close().await;
}

#[tokio::test]
async fn the_hub_is_told_of_a_failure_and_no_service_is() {
    let (bench, client) = device().await;
    for n in 0..12 {
        let pieces = [Ok(pattern(3000)), Err(format!("the sensor is gone {n}"))];
        let options = UploadOptions::default().block_size(1000);
        let upload = client.upload_file_with("broken", UploadSource::stream(stream::iter(pieces)), &options);
        // More than ten of them: each gave its place back.
        let error = within(upload).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.source().unwrap().to_string(), format!("the sensor is gone {n}"));
    }
    assert!(bench.hub.uploaded_file(&format!("{DEVICE}/broken")).is_none());
    assert_eq!(notification(&bench), None);
    client.close().await;
}

#[tokio::test]
async fn step_by_step() {
    let (bench, client) = device().await;
    let upload = within(client.start_upload("steps.txt")).await.unwrap();
    assert_eq!(upload.blob_name(), format!("{DEVICE}/steps.txt"));
    let uri = upload.sas_uri();
    assert!(uri.reveal().starts_with(&format!("{}?sv=", upload.blob_uri())));
    assert!(!format!("{upload:?}").contains("sig="));
    assert_eq!(within(upload.send("one".to_owned())).await.unwrap(), 3);
    assert_eq!(within(upload.send("four".to_owned())).await.unwrap(), 4);
    assert_eq!(notification(&bench), None);
    within(upload.complete()).await.unwrap();
    assert_eq!(content(&bench, "steps.txt"), b"four");
    assert_eq!(notification(&bench).unwrap()["blobSizeInBytes"], 4);

    // It is over.
    let error = within(upload.complete()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.hub_code()),
        (ErrorKind::InvalidInput, Some("InvalidFileUploadCorrelationId"))
    );
    assert!(error.to_string().contains("ended already"), "{error}");
    client.close().await;
}

#[tokio::test]
async fn ten_are_open_at_a_time() {
    let (_bench, client) = device().await;
    let mut open = Vec::new();
    for n in 0..10 {
        open.push(within(client.start_upload(&format!("{n}"))).await.unwrap());
    }
    let error = within(client.upload_file("more", b"x".to_vec())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert!(error.to_string().contains("ten file uploads"), "{error}");
    within(open[3].fail(499, "not needed")).await.unwrap();
    within(client.upload_file("more", b"x".to_vec())).await.unwrap();
    client.close().await;
}

#[tokio::test]
async fn an_upload_that_took_too_long_is_told_from_one_that_never_was() {
    let (bench, client) = device().await;
    let upload = within(client.start_upload("slow")).await.unwrap();
    bench.hub.advance(Duration::from_secs(3601));
    let error = within(upload.send(b"late".to_vec())).await.unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::Unauthorized, Some("AuthenticationFailed")));
    assert!(error.source().unwrap().to_string().contains("expired"), "{error:?}");
    let error = within(upload.complete()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.hub_code()),
        (ErrorKind::InvalidInput, Some("ExpiredFileUploadCorrelationId"))
    );
    assert!(error.to_string().contains("start it anew"), "{error}");
    client.close().await;
}

#[tokio::test]
async fn what_cannot_be_uploaded_is_refused_before_the_hub_is_asked() {
    let (_bench, client) = device().await;
    let upload = client.upload_file("a", UploadSource::file("no/such/file"));
    let error = within(upload).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no/such/file"), "{error}");
    let options = UploadOptions::default().block_size(0);
    let error = within(client.upload_file_with("a", Vec::new(), &options)).await.unwrap_err();
    assert!(error.to_string().contains("block size"), "{error}");
    let error = within(client.upload_file("", Vec::new())).await.unwrap_err();
    assert!(error.to_string().contains("no name"), "{error}");
    // This one is the hub's to refuse.
    let error = within(client.upload_file("dir/", Vec::new())).await.unwrap_err();
    assert_eq!((error.kind(), error.hub_code()), (ErrorKind::InvalidInput, Some("ArgumentInvalid")));

    client.close().await;
    let error = within(client.upload_file("a", b"x".to_vec())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_success_without_a_file_is_noticed() {
    let (bench, client) = device().await;
    let upload = within(client.start_upload("nothing")).await.unwrap();
    let error = within(upload.complete()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.hub_code()),
        (ErrorKind::InvalidInput, Some("InvalidStorageEndpointOrBlob"))
    );
    assert_eq!(notification(&bench), None);
    client.close().await;
}
