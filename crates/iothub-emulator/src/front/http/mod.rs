//! The REST half of the hub over HTTP/1.1: registry, twins, methods, messages, statistics.
//!
//! A request goes through `HttpFront::exchange`: route, api-version, authorization, faults, body, handler; the first
//! step that objects gives the answer. What the hub says and why is cited from the protocol reference (`rest.md`).

mod access;
mod admin;
mod answer;
mod blobs;
mod body;
mod call;
mod configurations;
mod device_messages;
mod devices;
mod digital_twins;
mod edge;
mod enrollments;
mod feedback;
mod files;
mod jobs;
mod methods;
mod modules;
mod neighbours;
mod query;
mod registrations;
mod router;
mod routes;
mod statistics;
mod transfers;
mod twins;
mod websocket;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::access::Access;
use self::answer::{Answer, Refusal};
use self::call::{Call, Query};
use self::router::{Found, Router};
use self::websocket::Switch;
use super::listener::Port;
use super::{amqp, listener};
use crate::hub::{ClientCertificate, Hub, Rights};
use crate::provisioning::Provisioning;

/// From the first byte of a request to the end of its headers, and how long an idle connection is kept.
const HEADER_DEADLINE: Duration = Duration::from_secs(60);
/// What one connection may hold of unread input; so also the size of a request's head.
const BUFFER_LIMIT: usize = 64 * 1024;
/// Java cannot send PATCH and says so with this header on a POST (rest.md 1.1).
const METHOD_OVERRIDE: &str = "x-http-method-override";

/// The HTTP side of one hub, shared by its connections.
#[derive(Clone)]
pub(crate) struct HttpFront {
    hub: Hub,
    provisioning: Provisioning,
    /// Where AMQP is found without HTTP.
    amqps_port: Port,
    /// What TLS was shown on the connection that is served.
    certificate: Option<ClientCertificate>,
    router: Arc<Router>,
}

impl HttpFront {
    pub(crate) fn new(hub: Hub, provisioning: Provisioning, amqps_port: Port) -> Self {
        Self { hub, provisioning, amqps_port, certificate: None, router: Arc::new(routes::router()) }
    }

    /// Serves one connection until it ends; after `shutdown` no longer than the request under way. It may become a
    /// WebSocket with AMQP in it.
    pub(crate) async fn serve(mut self, stream: TlsStream<TcpStream>, shutdown: CancellationToken) {
        self.certificate = listener::certificate(&stream);
        let switch = Switch::default();
        let service = service_fn(|mut request| {
            let (front, switch) = (self.clone(), switch.clone());
            async move {
                let response = match switch.answer(&mut request) {
                    Some(response) => response,
                    None => front.answer(request).await,
                };
                Ok::<_, Infallible>(response)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_DEADLINE)
            .max_buf_size(BUFFER_LIMIT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);

        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "HTTP connection ended");
        }
        if let Some(stream) = switch.stream().await {
            let (hub, port) = (self.hub.clone(), self.amqps_port.get());
            amqp::serve(stream, hub, port, self.certificate.clone(), shutdown).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, mut incoming) = request.into_parts();
        if let Some(response) = self.neighbour(&head, &mut incoming).await {
            return response;
        }
        let method = effective_method(&head.method, &head.headers);
        let path = head.uri.path().to_owned();

        let query = Query::parse(head.uri.query().unwrap_or_default());
        let outcome = self.exchange(&method, &path, query, &head.headers, &mut incoming).await;
        body::drain(&head.headers, &mut incoming).await;

        match &outcome {
            Ok(answer) => debug!(%method, path, status = answer.status.as_u16(), "served"),
            Err(Refusal { error, .. }) => {
                debug!(%method, path, status = error.status, code = error.name, "refused");
            }
        }
        answer::into_response(outcome, self.hub.now())
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        query: Query,
        headers: &HeaderMap,
        incoming: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let segments = router::segments(path)?;
        let (route, params) = match self.router.find(method, &segments) {
            Found::Route(route, params) => (route, params),
            Found::OtherMethods(allowed) => return Err(answer::method_not_allowed(method, path, &allowed)),
            Found::Nothing => return Err(answer::no_such_endpoint(method, path).into()),
        };
        if route.versioned {
            access::check_api_version(&query)?;
        }
        let grant = match route.access {
            Access::Everyone => None,
            Access::Right(right) => Some(access::authorize(&self.hub, headers, &segments, right)?),
            Access::Admin => Some(access::authorize(&self.hub, headers, &segments, Rights::ALL)?),
            Access::MethodCaller => Some(edge::authorize_method(&self.hub, headers, &segments)?),
            Access::Identity => {
                access::authorize_identity(&self.hub, headers, &params, self.certificate.as_ref())?
            }
        };
        if !matches!(route.access, Access::Everyone | Access::Admin) {
            let faults = self.hub.faults();
            if let Some(delay) = faults.http_delay() {
                // A time the clock cannot show never comes; the client gives up.
                match self.hub.now().checked_add(delay) {
                    Some(at) => self.hub.clock().reached(at).await,
                    None => std::future::pending().await,
                }
            }
            faults.http_call()?;
        }
        let body = body::read(headers, incoming).await?;
        let call = Call { hub: self.hub.clone(), params, query, headers: headers.clone(), body, grant };
        Ok((route.handler)(call).await?)
    }
}

fn effective_method(method: &Method, headers: &HeaderMap) -> Method {
    let overridden = headers
        .get(METHOD_OVERRIDE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(Method::PATCH.as_str().as_bytes()));
    if overridden && *method == Method::POST { Method::PATCH } else { method.clone() }
}
