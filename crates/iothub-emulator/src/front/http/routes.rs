//! The table of endpoints: method, path, right (rest.md 1.4), handler.

use http::Method;

use super::access::Access;
use super::router::Router;
use super::{
    admin, configurations, device_messages, devices, digital_twins, feedback, files, jobs, methods, modules,
    query, statistics, transfers, twins,
};
use crate::hub::Rights;

/// Where two patterns fit a path the earlier line counts: put fixed paths before those with ids.
pub(super) fn router() -> Router {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;

    const REGISTRY_READ: Access = Access::Right(Rights::REGISTRY_READ);
    const REGISTRY_WRITE: Access = Access::Right(Rights::REGISTRY_WRITE);
    const SERVICE: Access = Access::Right(Rights::SERVICE_CONNECT);

    Router::default()
        .on(GET, "/health", Access::Everyone, statistics::health)
        .unversioned()
        // Of this hub only
        .on(POST, "/admin/faults", Access::Admin, admin::add_fault)
        .unversioned()
        .on(DELETE, "/admin/faults", Access::Admin, admin::clear_faults)
        .unversioned()
        .on(GET, "/admin/counters", Access::Admin, admin::counters)
        .unversioned()
        .on(POST, "/admin/clock", Access::Admin, admin::advance)
        .unversioned()
        .on(POST, "/admin/reset", Access::Admin, admin::reset)
        .unversioned()
        // Identities (rest.md 3 and 4)
        .on(GET, "/devices", REGISTRY_READ, devices::list)
        .on(POST, "/devices", REGISTRY_WRITE, devices::bulk)
        .on(GET, "/devices/{d}", REGISTRY_READ, devices::get)
        .on(PUT, "/devices/{d}", REGISTRY_WRITE, devices::put)
        .on(DELETE, "/devices/{d}", REGISTRY_WRITE, devices::delete)
        .on(GET, "/devices/{d}/modules", REGISTRY_READ, modules::list)
        .on(GET, "/devices/{d}/modules/{m}", REGISTRY_READ, modules::get)
        .on(PUT, "/devices/{d}/modules/{m}", REGISTRY_WRITE, modules::put)
        .on(DELETE, "/devices/{d}/modules/{m}", REGISTRY_WRITE, modules::delete)
        // Twins (rest.md 5)
        .on(GET, "/twins/{d}", SERVICE, twins::get)
        .on(PATCH, "/twins/{d}", SERVICE, twins::patch)
        .on(PUT, "/twins/{d}", SERVICE, twins::put)
        .on(GET, "/twins/{d}/modules/{m}", SERVICE, twins::get)
        .on(PATCH, "/twins/{d}/modules/{m}", SERVICE, twins::patch)
        .on(PUT, "/twins/{d}/modules/{m}", SERVICE, twins::put)
        // Configurations (rest.md 9)
        .on(GET, "/configurations", REGISTRY_READ, configurations::list)
        .on(POST, "/configurations/testQueries", REGISTRY_WRITE, configurations::test_queries)
        .on(GET, "/configurations/{id}", REGISTRY_READ, configurations::get)
        .on(PUT, "/configurations/{id}", REGISTRY_WRITE, configurations::put)
        .on(DELETE, "/configurations/{id}", REGISTRY_WRITE, configurations::delete)
        .on(POST, "/devices/{d}/applyConfigurationContent", REGISTRY_WRITE, configurations::apply)
        // Scheduled jobs (rest.md 8.1)
        .on(GET, "/jobs/v2/query", SERVICE, jobs::list)
        .on(PUT, "/jobs/v2/{id}", SERVICE, jobs::put)
        .on(GET, "/jobs/v2/{id}", SERVICE, jobs::get)
        .on(POST, "/jobs/v2/{id}/cancel", SERVICE, jobs::cancel)
        // Imports and exports (rest.md 8.2)
        .on(POST, "/jobs/create", REGISTRY_WRITE, transfers::create)
        .on(GET, "/jobs", REGISTRY_WRITE, transfers::list)
        .on(GET, "/jobs/{id}", REGISTRY_WRITE, transfers::get)
        .on(DELETE, "/jobs/{id}", REGISTRY_WRITE, transfers::cancel)
        // Digital twins (rest.md 10)
        .on(GET, "/digitaltwins/{d}", SERVICE, digital_twins::get)
        .on(PATCH, "/digitaltwins/{d}", SERVICE, digital_twins::patch)
        .on(POST, "/digitaltwins/{d}/commands/{name}", SERVICE, digital_twins::command)
        .on(POST, "/digitaltwins/{d}/components/{c}/commands/{name}", SERVICE, digital_twins::command)
        // Queries (rest.md 6)
        .on(POST, "/devices/query", SERVICE, query::run)
        // Methods (rest.md 7); Node's modules call them without a version
        .on(POST, "/twins/{d}/methods", Access::MethodCaller, methods::invoke)
        .unversioned()
        .on(POST, "/twins/{d}/modules/{m}/methods", Access::MethodCaller, methods::invoke)
        .unversioned()
        // Messages (rest.md 3.1, 11)
        .on(DELETE, "/devices/{d}/commands", SERVICE, device_messages::purge)
        .on(POST, "/devices/{d}/messages/events", Access::Identity, device_messages::send)
        .on(POST, "/devices/{d}/modules/{m}/messages/events", Access::Identity, device_messages::send)
        .on(GET, "/devices/{d}/messages/devicebound", Access::Identity, device_messages::receive)
        .on(DELETE, "/devices/{d}/messages/devicebound/{lock}", Access::Identity, device_messages::complete)
        .on(
            POST,
            "/devices/{d}/messages/devicebound/{lock}/abandon",
            Access::Identity,
            device_messages::abandon,
        )
        .on(GET, "/messages/servicebound/feedback", SERVICE, feedback::receive)
        .on(DELETE, "/messages/servicebound/feedback/{lock}", SERVICE, feedback::complete)
        .on(POST, "/messages/servicebound/feedback/{lock}/abandon", SERVICE, feedback::abandon)
        // File uploads (rest.md 11.3)
        .on(POST, "/devices/{d}/files", Access::Identity, files::start)
        .on(POST, "/devices/{d}/files/notifications", Access::Identity, files::finish)
        .on(POST, "/devices/{d}/files/notifications/{correlation}", Access::Identity, files::finish)
        // Statistics (rest.md 3.1)
        .on(GET, "/statistics/devices", REGISTRY_READ, statistics::devices)
        .on(GET, "/statistics/service", SERVICE, statistics::service)
}
