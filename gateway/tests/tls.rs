//! HTTPS: both protocols, certificates that change while it runs, and clients that hold a connection for nothing.
#![cfg(test)]

mod support;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Client, ClientBuilder, Version};
use serde_json::Value;
use support::metrics::Metrics;
use support::reply::Reply;
use support::upstream::{Script, Upstream};
use support::wait::eventually;
use support::{CAPITAL, Gateway, Setup, ask, ask_streamed};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A gateway over an upstream, its certificate in its own folder.
struct Secure {
    gateway: Gateway,
    upstream: Upstream,
    home: Arc<TempDir>,
}

impl Secure {
    async fn start(script: Script, limits: &str) -> (Self, CertifiedKey) {
        let (home, upstream) = (Arc::new(TempDir::new().expect("a folder")), Upstream::start(script).await);
        let certified = certificate();
        place(&home, &certified);
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| home.path().join(name).display().to_string());
        let setup = Setup::empty()
            .remote("small", 1.0, &upstream.base_url)
            .cache("enabled = false")
            .server(&format!("{limits}\ntls = {{ cert = \"{cert}\", key = \"{key}\" }}"));
        let secure = Self { gateway: Gateway::spawn(setup, Arc::clone(&home)), upstream, home };
        let client = trusting(&certified).build().expect("a client");
        eventually("it is ready", || async {
            let ready = client.get(secure.url("/readyz")).send().await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await;
        (secure, certified)
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.gateway.address)
    }

    async fn chat(&self, client: &Client, body: &Value) -> (Version, Reply) {
        let response =
            client.post(self.url("/v1/chat/completions")).json(body).send().await.expect("an answer");
        (response.version(), Reply::read(response).await)
    }

    async fn reaches(&self, trusted: &CertifiedKey) -> bool {
        let client = trusting(trusted).build().expect("a client");
        client.get(self.url("/livez")).send().await.is_ok_and(|response| response.status().is_success())
    }

    async fn reloads(&self, trusted: &CertifiedKey, result: &str) -> f64 {
        self.metric(trusted, "reprise_config_reloads_total", &[("result", result)]).await
    }

    async fn metric(&self, trusted: &CertifiedKey, name: &str, labels: &[(&str, &str)]) -> f64 {
        let client = trusting(trusted).build().expect("a client");
        let answer = client.get(self.url("/metrics")).send().await.expect("an answer");
        Metrics::new(answer.text().await.expect("text")).sum(name, labels)
    }
}

fn certificate() -> CertifiedKey {
    generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a certificate")
}

/// As a tool that renews certificates does: each file whole, one after the other.
fn place(home: &TempDir, certified: &CertifiedKey) {
    for (name, text) in [("cert.pem", certified.cert.pem()), ("key.pem", certified.key_pair.serialize_pem())]
    {
        let (path, aside) = (home.path().join(name), home.path().join(format!("{name}.new")));
        std::fs::write(&aside, text).expect("it is written");
        std::fs::rename(aside, path).expect("it is renamed");
    }
}

/// Trusts this certificate and no other.
fn trusting(certified: &CertifiedKey) -> ClientBuilder {
    let root = reqwest::Certificate::from_pem(certified.cert.pem().as_bytes()).expect("a root");
    Client::builder().no_proxy().tls_built_in_root_certs(false).add_root_certificate(root)
}

#[tokio::test]
async fn both_protocols_are_spoken_whole_and_streamed() {
    let (secure, certified) = Secure::start(Script::Answer("Berlin."), "").await;
    let modern = trusting(&certified).build().expect("a client");
    let old = trusting(&certified).http1_only().build().expect("a client");
    for (client, version) in [(&modern, Version::HTTP_2), (&old, Version::HTTP_11)] {
        let (spoken, reply) = secure.chat(client, &ask("small", CAPITAL)).await;
        assert_eq!((spoken, reply.text().as_str()), (version, "Berlin."));
        let (spoken, reply) = secure.chat(client, &ask_streamed("small", CAPITAL)).await;
        assert_eq!((spoken, reply.streamed_text().as_str()), (version, "Berlin."));
        assert_eq!(reply.header("x-reprise-tier"), "small");
        let wrong = client.post(secure.url("/v1/chat/completions")).json(&serde_json::json!({})).send().await;
        Reply::read(wrong.expect("an answer")).await.assert_names("model");
    }
    // Many at once over one connection.
    let body = ask_streamed("small", CAPITAL);
    let replies = join_all((0..60).map(|_| secure.chat(&modern, &body))).await;
    assert!(
        replies
            .iter()
            .all(|(version, reply)| *version == Version::HTTP_2 && reply.streamed_text() == "Berlin.")
    );
}

#[tokio::test]
async fn who_does_not_shake_hands_is_cut_off() {
    let (secure, certified) = Secure::start(Script::Answer("Berlin."), "header_timeout_s = 1").await;
    let mut silent = TcpStream::connect(secure.gateway.address).await.expect("a connection");
    let mut plain = TcpStream::connect(secure.gateway.address).await.expect("a connection");
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("written");
    let client = trusting(&certified).build().expect("a client");
    assert_eq!(secure.chat(&client, &ask("small", CAPITAL)).await.1.text(), "Berlin.", "others are served");
    for stream in [&mut silent, &mut plain] {
        let mut told = Vec::new();
        // An alert of TLS or a reset: in no case an answer in the clear.
        let closed = timeout(Duration::from_secs(60), stream.read_to_end(&mut told)).await;
        assert!(closed.is_ok(), "the connection is closed");
        assert!(!String::from_utf8_lossy(&told).contains("HTTP/1.1 200"), "{told:?}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_what_runs_goes_on() {
    let (secure, first) = Secure::start(Script::Held("Berlin."), "").await;
    let client = trusting(&first).build().expect("a client");
    let asking = client.post(secure.url("/v1/chat/completions")).json(&ask("small", CAPITAL)).send();
    let held = tokio::spawn(asking);
    eventually("it is at the upstream", || async { (secure.upstream.requests() == 1).then_some(()) }).await;

    // A key that is another's: the old pair stays in force.
    let failed = secure.reloads(&first, "failed").await;
    let odd = certificate();
    std::fs::write(secure.home.path().join("key.pem"), odd.key_pair.serialize_pem()).expect("it is written");
    eventually("it is refused", || async { (secure.reloads(&first, "failed").await > failed).then_some(()) })
        .await;
    assert!(secure.gateway.log().contains("server.tls.key"), "{}", secure.gateway.log());
    assert!(secure.reaches(&first).await);

    let second = certificate();
    place(&secure.home, &second);
    eventually("the new one is in force", || async { secure.reaches(&second).await.then_some(()) }).await;
    assert!(!secure.reaches(&first).await, "and the old one no more");

    secure.upstream.release();
    let reply = Reply::read(held.await.expect("it ends").expect("an answer")).await;
    assert_eq!(reply.text(), "Berlin.");
}

#[tokio::test]
async fn shutdown_lets_streams_end() {
    let (mut secure, certified) = Secure::start(Script::Held("Berlin."), "").await;
    let client = trusting(&certified).build().expect("a client");
    let asking = client.post(secure.url("/v1/chat/completions")).json(&ask("small", CAPITAL)).send();
    let held = tokio::spawn(asking);
    eventually("it is at the upstream", || async { (secure.upstream.requests() == 1).then_some(()) }).await;
    secure.gateway.terminate();
    secure.upstream.release();
    let reply = Reply::read(held.await.expect("it ends").expect("an answer")).await;
    assert_eq!(reply.text(), "Berlin.");
    assert!(secure.gateway.until_exited().await.success());
}

#[tokio::test]
async fn the_command_line_trusts_a_private_authority() {
    let (secure, certified) = Secure::start(Script::Answer("Berlin."), "").await;
    let authority = secure.home.path().join("authority.pem");
    std::fs::write(&authority, certified.cert.pem()).expect("it is written");
    let other = secure.home.path().join("other.pem");
    std::fs::write(&other, certificate().cert.pem()).expect("it is written");
    let empty = secure.home.path().join("empty.pem");
    std::fs::write(&empty, "").expect("it is written");
    let list = async |argument: Option<&Path>, variable: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reprise"));
        command.args(["keys", "list", "--gateway", &secure.url("")]);
        command.env_remove("REPRISE_CA_FILE").env_remove("REPRISE_ADMIN_KEY");
        command.args(argument.iter().flat_map(|file| [OsStr::new("--ca-file"), file.as_os_str()]));
        command.envs(variable.map(|file| ("REPRISE_CA_FILE", file)));
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.expect("it ends").expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for told in [list(Some(&authority), None).await, list(None, Some(&authority)).await] {
        assert!(told.0, "{}", told.1);
    }
    assert!(!list(None, None).await.0, "of an unknown authority");
    assert!(!list(Some(&other), None).await.0, "another is trusted");
    let none = secure.home.path().join("none.pem");
    for (file, reason) in [(&empty, "holds no certificates"), (&none, "cannot read")] {
        let (listed, told) = list(Some(file), None).await;
        assert!(!listed && told.contains(reason), "{told}");
    }
}
