//! A request as services see it, and what is checked before they do. Pure.

use super::HttpResponse;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use percent_encoding::percent_decode_str;
use std::net::IpAddr;

/// The methods that are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HttpMethod {
    /// Read.
    Get,
    /// Read, without the body. Services answer it as they answer `Get`.
    Head,
    /// Change.
    Post,
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpRequest {
    /// GET, HEAD or POST.
    pub method: HttpMethod,
    /// Percent-decoded, without the query; begins with `/`.
    pub path: String,
    /// Percent-decoded pairs in their order; a pair without `=` has an empty value.
    pub query: Vec<(String, String)>,
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// The body, at most `BODY_BYTES_MAX`.
    pub body: Bytes,
}

impl HttpRequest {
    /// The first query value of that name.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The head of a request, or the answer that refuses it.
    pub(super) fn from_head(head: &hyper::http::request::Parts, on_loopback: bool) -> Result<Self, HttpResponse> {
        let method = match head.method {
            hyper::Method::GET => HttpMethod::Get,
            hyper::Method::HEAD => HttpMethod::Head,
            hyper::Method::POST => HttpMethod::Post,
            _ => {
                let refusal = HttpResponse::text(405, "method: want GET, HEAD or POST");
                return Err(refusal.with_header("allow", "GET, HEAD, POST"));
            }
        };
        if on_loopback {
            let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
            let named = [host, head.uri.authority().map(|authority| authority.as_str())];
            if host.is_none() || !named.into_iter().flatten().all(is_loopback_host) {
                return Err(HttpResponse::text(
                    421,
                    "host: want localhost, 127.0.0.1 or [::1]: this is a local server",
                ));
            }
        }
        let bad = || HttpResponse::text(400, "path and query: want percent-encoded UTF-8");
        let path = decode(head.uri.path()).ok_or_else(bad)?;
        if !path.starts_with('/') {
            return Err(HttpResponse::text(400, "path: want one that begins with /"));
        }
        let mut query = Vec::new();
        for pair in head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let pair = pair.replace('+', " ");
            let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
            query.push((decode(name).ok_or_else(bad)?, decode(value).ok_or_else(bad)?));
        }
        let bearer = head
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim().to_string());
        Ok(Self { method, path, query, bearer, body: Bytes::new() })
    }
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

/// `host` or `host:port` that means this host alone.
fn is_loopback_host(text: &str) -> bool {
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => text.split_once(':').map_or(text, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> hyper::http::request::Parts {
        let mut request = hyper::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn path_query_and_token_are_decoded() {
        let head = head(
            "/browse%20x?path=%2Fa%26b+c&flag&path=second",
            &[("host", "localhost:7480"), ("authorization", "bearer  secret ")],
        );
        let request = HttpRequest::from_head(&head, true).expect("good");
        assert_eq!(request.path, "/browse x");
        assert_eq!(request.query_value("path"), Some("/a&b c"));
        assert_eq!(request.query_value("flag"), Some(""));
        assert_eq!(request.query_value("none"), None);
        assert_eq!(request.bearer.as_deref(), Some("secret"));
    }

    #[test]
    fn foreign_hosts_are_refused_on_loopback() {
        for good in ["localhost", "LOCALHOST:1", "127.0.0.1:7480", "[::1]:7480", "[::1]"] {
            assert!(HttpRequest::from_head(&head("/", &[("host", good)]), true).is_ok(), "{good}");
        }
        for bad in ["evil.example", "evil.example:7480", "localhost.evil.example", "10.0.0.1", "[::2]:1", "", "["] {
            let refused = HttpRequest::from_head(&head("/", &[("host", bad)]), true).expect_err(bad);
            assert_eq!(refused.status, 421, "{bad}");
            assert!(HttpRequest::from_head(&head("/", &[("host", bad)]), false).is_ok(), "{bad}");
        }
        assert!(HttpRequest::from_head(&head("/", &[]), true).is_err(), "no host at all");
        let absolute = head("http://evil.example/", &[("host", "localhost")]);
        assert!(HttpRequest::from_head(&absolute, true).is_err());
    }

    #[test]
    fn what_is_not_text_is_refused() {
        for bad in ["/%ff", "/?a=%ff", "/?%ff"] {
            assert_eq!(HttpRequest::from_head(&head(bad, &[("host", "localhost")]), true).expect_err(bad).status, 400);
        }
    }
}
