//! From method and path to a handler.
//!
//! Fixed segments are compared without regard to case, ids are not; a trailing slash is allowed; each segment is
//! percent-decoded once, after the split (rest.md 1.2). axum's router compares with case and treats `/devices`
//! and `/devices/` as two paths, hence this one.

use std::future::Future;
use std::pin::Pin;

use http::Method;
use percent_encoding::percent_decode_str;

use super::access::Access;
use super::answer::{self, Outcome};
use super::call::{Call, Params};
use crate::hub::HubError;

type Handler = Box<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// One endpoint.
pub(super) struct Route {
    method: Method,
    pattern: Vec<Segment>,
    pub(super) access: Access,
    /// Whether `api-version` is asked for.
    pub(super) versioned: bool,
    pub(super) handler: Handler,
}

enum Segment {
    Fixed(&'static str),
    Param(&'static str),
}

/// What [`Router::find`] found.
pub(super) enum Found<'a> {
    Route(&'a Route, Params),
    /// The path exists, with these methods.
    OtherMethods(Vec<Method>),
    Nothing,
}

/// All endpoints; the first that fits is taken.
#[derive(Default)]
pub(super) struct Router {
    routes: Vec<Route>,
}

impl Router {
    /// Adds an endpoint. `pattern` is like `/devices/{d}`.
    pub(super) fn on<H, F>(
        mut self,
        method: Method,
        pattern: &'static str,
        access: Access,
        handler: H,
    ) -> Self
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let pattern = pattern
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) => Segment::Param(name),
                None => Segment::Fixed(segment),
            })
            .collect();
        let handler: Handler = Box::new(move |call| Box::pin(handler(call)));
        self.routes.push(Route { method, pattern, access, versioned: true, handler });
        self
    }

    /// The endpoint added last is served without `api-version` too.
    pub(super) fn unversioned(mut self) -> Self {
        if let Some(route) = self.routes.last_mut() {
            route.versioned = false;
        }
        self
    }

    pub(super) fn find(&self, method: &Method, segments: &[String]) -> Found<'_> {
        let mut others = Vec::new();
        for route in &self.routes {
            let Some(params) = route.fits(segments) else { continue };
            if route.method == *method {
                return Found::Route(route, params);
            }
            others.push(route.method.clone());
        }
        if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others) }
    }
}

impl Route {
    fn fits(&self, segments: &[String]) -> Option<Params> {
        if self.pattern.len() != segments.len() {
            return None;
        }
        let mut params = Params::default();
        for (expected, given) in self.pattern.iter().zip(segments) {
            match expected {
                Segment::Fixed(text) if text.eq_ignore_ascii_case(given) => {}
                Segment::Fixed(_) => return None,
                Segment::Param(name) => params.push(name, given.clone()),
            }
        }
        Some(params)
    }
}

/// The decoded segments of a path. A broken escape stays as it is: the C SDK does not escape ids.
pub(super) fn segments(path: &str) -> Result<Vec<String>, HubError> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/')
        .map(|segment| match percent_decode_str(segment).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(answer::argument_invalid(format!("path segment `{segment}` is not UTF-8"))),
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn router() -> Router {
        async fn nothing(_call: Call) -> Outcome {
            Ok(answer::Answer::no_content())
        }
        Router::default()
            .on(Method::POST, "/devices/query", Access::Everyone, nothing)
            .on(Method::GET, "/devices", Access::Everyone, nothing)
            .on(Method::GET, "/devices/{d}", Access::Everyone, nothing)
            .on(Method::PUT, "/devices/{d}/modules/{m}", Access::Everyone, nothing)
    }

    /// The parameters, or the methods the path has.
    fn found(method: Method, path: &str) -> Result<Vec<String>, Vec<Method>> {
        let router = router();
        match router.find(&method, &segments(path).unwrap()) {
            Found::Route(_, params) => Ok(params.values()),
            Found::OtherMethods(methods) => Err(methods),
            Found::Nothing => Err(Vec::new()),
        }
    }

    #[test]
    fn fixed_segments_ignore_case_and_ids_do_not() {
        assert_eq!(found(Method::GET, "/DEVICES/DeviceOne").unwrap(), ["DeviceOne"]);
        assert_eq!(found(Method::PUT, "/devices/d/Modules/M/").unwrap(), ["d", "M"]);
    }

    #[test]
    fn trailing_slash_is_the_same_path() {
        assert_eq!(found(Method::GET, "/devices").unwrap().len(), 0);
        assert_eq!(found(Method::GET, "/devices/").unwrap().len(), 0);
    }

    #[test]
    fn segments_are_decoded_once_and_after_the_split() {
        for (path, id) in [
            ("/devices/a%20b%23%25%2B%40d", "a b#%+@d"),
            ("/devices/dev%252b", "dev%2b"),
            ("/devices/a+b", "a+b"),
            ("/devices/a%2Fb", "a/b"),
            ("/devices/50%", "50%"),
            ("/devices/%24edgeAgent", "$edgeAgent"),
        ] {
            assert_eq!(found(Method::GET, path).unwrap(), [id], "{path}");
        }
        assert!(segments("/devices/%ff").is_err());
    }

    #[test]
    fn first_fitting_endpoint_is_taken() {
        assert_eq!(found(Method::POST, "/devices/query").unwrap().len(), 0);
        assert_eq!(found(Method::GET, "/devices/query").unwrap(), ["query"]);
    }

    #[test]
    fn known_path_with_other_method_is_told_from_an_unknown_path() {
        let none: Vec<Method> = Vec::new();
        assert_eq!(found(Method::DELETE, "/devices").unwrap_err(), [Method::GET]);
        assert_eq!(found(Method::GET, "/").unwrap_err(), none);
        assert_eq!(found(Method::GET, "/devices/a/b").unwrap_err(), none);
        assert_eq!(found(Method::GET, "//devices").unwrap_err(), none);
    }
}
