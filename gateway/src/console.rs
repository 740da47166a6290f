//! The console at `/`: files built into the binary, so that it works without the internet and never beside another
//! version of the gateway. It is plain: whoever may see what it shows is decided by the admin interface it calls.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};

/// Nothing from elsewhere and nothing inline: text of an example that slipped into the page still could not run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! asset {
    ($path:literal, $kind:ident, $file:literal) => {
        Asset { path: $path, kind: $kind, text: include_str!(concat!("../console/", $file)) }
    };
}

const ASSETS: [Asset; 17] = [
    asset!("/", HTML, "index.html"),
    asset!("/console.css", CSS, "console.css"),
    asset!("/console.js", JS, "console.js"),
    asset!("/console/mark.svg", SVG, "mark.svg"),
    asset!("/console/api.js", JS, "api.js"),
    asset!("/console/chat.js", JS, "chat.js"),
    asset!("/console/dom.js", JS, "dom.js"),
    asset!("/console/examples.js", JS, "examples.js"),
    asset!("/console/format.js", JS, "format.js"),
    asset!("/console/heat.js", JS, "heat.js"),
    asset!("/console/plot.js", JS, "plot.js"),
    asset!("/console/record.js", JS, "record.js"),
    asset!("/console/replay.js", JS, "replay.js"),
    asset!("/console/requests.js", JS, "requests.js"),
    asset!("/console/tiers.js", JS, "tiers.js"),
    asset!("/console/tiles.js", JS, "tiles.js"),
    asset!("/console/why.js", JS, "why.js"),
];

#[derive(Debug, Clone, Copy)]
struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

/// The page and its files; no state, no key.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.into_iter().fold(Router::new(), |router, asset| {
        let tag = format!("\"{:.16x}\"", Sha256::digest(asset.text));
        router.route(
            asset.path,
            get(move |headers: HeaderMap| std::future::ready(serve(asset, &tag, &headers))),
        )
    })
}

fn serve(asset: Asset, tag: &str, headers: &HeaderMap) -> Response {
    let fresh = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let fixed = [
        (ETAG, tag),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_TYPE, asset.kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    if fresh {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    (fixed, asset.text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn fetch(path: &str, tag: Option<&str>) -> Response {
        let mut request = Request::get(path);
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        router::<()>().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn the_page_is_guarded_and_revalidated() {
        let page = fetch("/", None).await;
        assert_eq!(page.status(), StatusCode::OK);
        assert_eq!(page.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        let tag = page.headers()[ETAG].to_str().unwrap();
        assert_eq!(fetch("/", Some(tag)).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(fetch("/", Some("\"old\"")).await.status(), StatusCode::OK);
    }

    #[test]
    fn every_file_that_is_named_is_there() {
        let served: Vec<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        for asset in &ASSETS {
            for part in asset.text.split(['"', '\'']) {
                let named = part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".svg");
                let path = match part {
                    _ if !named || part.contains(' ') => continue,
                    _ if part.starts_with("./console/") => part[1..].to_owned(),
                    _ if part.starts_with("./") => format!("/console/{}", &part[2..]),
                    _ => part.to_owned(),
                };
                assert!(served.contains(&path.as_str()), "{} names {path}", asset.path);
            }
        }
    }

    #[test]
    fn the_policy_leaves_nothing_inline_to_run() {
        let page = ASSETS[0].text;
        for inline in ["style=", "onclick=", "javascript:", "<style"] {
            assert!(!page.contains(inline), "{inline} in the page");
        }
        for asset in ASSETS.iter().filter(|asset| asset.kind == JS) {
            for parsed in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!asset.text.contains(parsed), "{parsed} in {}", asset.path);
            }
        }
    }
}
