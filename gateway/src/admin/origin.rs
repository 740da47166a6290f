//! Which requests a browser may have been talked into.
//!
//! A page on the internet can make a browser send requests to 127.0.0.1, and can point its own name there (DNS
//! rebinding). With no admin key, being local is all the proof there is, so such requests are told apart by the headers
//! that a page cannot forge: `Host`, `Origin` and `Sec-Fetch-Site`.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method, Uri};

/// Why a request was not believed to come from this machine or from this gateway's own page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    #[error("without an admin key the admin interface answers on the loopback address only")]
    NotLocal,
    #[error("without an admin key the admin interface answers to a loopback host name only (DNS rebinding)")]
    ForeignHost,
    #[error("a page of another origin may not use the admin interface")]
    ForeignPage,
}

/// True if the request came from this machine, under a name of this machine, and through no proxy.
pub fn check_local(peer: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), OriginError> {
    let forwarded =
        ["forwarded", "x-forwarded-for", "x-real-ip"].iter().any(|name| headers.contains_key(*name));
    if !is_loopback(peer.ip()) || forwarded {
        return Err(OriginError::NotLocal);
    }
    match authority(uri, headers) {
        Some(authority) if names_loopback(host_of(authority)) => Ok(()),
        _ => Err(OriginError::ForeignHost),
    }
}

/// Refuses what a page of another origin sends: always if it changes state, and to read if the browser says so.
pub fn check_page(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), OriginError> {
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    if matches!(site, Some(site) if site != b"same-origin" && site != b"none") {
        return Err(OriginError::ForeignPage);
    }
    if !changes_state(method) {
        return Ok(());
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let same = origin.to_str().ok().zip(authority(uri, headers)).is_some_and(|(o, a)| is_own(o, a));
    if same { Ok(()) } else { Err(OriginError::ForeignPage) }
}

pub fn changes_state(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// HTTP/2 carries the authority in the URI, HTTP/1 in `Host`. More than one `Host` is nobody's honest request.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str());
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    }
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    if let Some((inside, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside;
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn names_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(is_loopback)
}

/// Also an IPv4 loopback address as a dual-stack socket shows it.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// True if the origin is the authority itself; a default port may be left out on either side.
fn is_own(origin: &str, authority: &str) -> bool {
    let (host, port) = match origin.split_once("://") {
        Some(("http", host)) => (host, ":80"),
        Some(("https", host)) => (host, ":443"),
        _ => return false,
    };
    let bare = |text: &str| text.strip_suffix(port).unwrap_or(text).to_ascii_lowercase();
    !host.is_empty() && bare(host) == bare(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn local(peer: &str, pairs: &[(&'static str, &str)]) -> Result<(), OriginError> {
        check_local(peer.parse().unwrap(), &Uri::from_static("/admin/v1/state"), &headers(pairs))
    }

    fn page(method: &Method, pairs: &[(&'static str, &str)]) -> Result<(), OriginError> {
        check_page(method, &Uri::from_static("/admin/v1/state"), &headers(pairs))
    }

    #[test]
    fn loopback_under_a_loopback_name_is_local() {
        for (peer, host) in [
            ("127.0.0.1:5000", "127.0.0.1:8080"),
            ("127.0.0.1:5000", "localhost:8080"),
            ("127.0.0.1:5000", "LOCALHOST"),
            ("127.8.9.1:5000", "127.0.0.1"),
            ("[::1]:5000", "[::1]:8080"),
            ("[::ffff:127.0.0.1]:5000", "localhost."),
        ] {
            assert_eq!(local(peer, &[("host", host)]), Ok(()), "{peer} {host}");
        }
    }

    #[test]
    fn other_machines_are_not_local_whatever_they_call_us() {
        for peer in ["10.0.0.5:5000", "[fe80::1]:5000", "[::ffff:10.0.0.5]:5000"] {
            assert_eq!(local(peer, &[("host", "localhost")]), Err(OriginError::NotLocal), "{peer}");
        }
    }

    #[test]
    fn what_came_through_a_proxy_is_not_local() {
        let pairs = [("host", "localhost"), ("x-forwarded-for", "10.0.0.5")];
        assert_eq!(local("127.0.0.1:5000", &pairs), Err(OriginError::NotLocal));
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::2]:1",
            "",
        ] {
            let refused = local("127.0.0.1:5000", &[("host", host)]);
            assert_eq!(refused, Err(OriginError::ForeignHost), "{host}");
        }
        assert_eq!(local("127.0.0.1:5000", &[]), Err(OriginError::ForeignHost), "no Host at all");
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(local("127.0.0.1:5000", &two), Err(OriginError::ForeignHost), "two Hosts");
    }

    #[test]
    fn the_authority_of_http2_counts_as_host() {
        let peer = "127.0.0.1:5000".parse().unwrap();
        let uri = Uri::from_static("http://evil.example/admin/v1/state");
        assert_eq!(
            check_local(peer, &uri, &headers(&[("host", "localhost")])),
            Err(OriginError::ForeignHost)
        );
    }

    #[test]
    fn a_tool_without_origin_may_write_and_so_may_our_own_page() {
        assert_eq!(page(&Method::POST, &[("host", "localhost:8080")]), Ok(()));
        for (origin, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("https://gw.example", "gw.example"),
            ("https://gw.example", "gw.example:443"),
            ("http://GW.example:80", "gw.example"),
        ] {
            assert_eq!(page(&Method::POST, &[("host", host), ("origin", origin)]), Ok(()), "{origin} {host}");
        }
    }

    #[test]
    fn a_page_of_another_origin_may_not_write() {
        for origin in [
            "http://evil.example",
            "http://localhost:9999",
            "https://localhost.evil.example:8080",
            "null",
            "http://",
            "file://",
        ] {
            let refused = page(&Method::DELETE, &[("host", "localhost:8080"), ("origin", origin)]);
            assert_eq!(refused, Err(OriginError::ForeignPage), "{origin}");
        }
    }

    #[test]
    fn a_browser_that_says_cross_site_may_not_even_read() {
        for site in ["cross-site", "same-site"] {
            assert_eq!(page(&Method::GET, &[("sec-fetch-site", site)]), Err(OriginError::ForeignPage));
        }
        for site in ["same-origin", "none"] {
            assert_eq!(page(&Method::GET, &[("sec-fetch-site", site)]), Ok(()));
        }
    }
}
