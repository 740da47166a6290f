//! The real binary, started with a data folder of its own and ended with the test.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

use super::Setup;
use super::metrics::Metrics;
use super::reply::Reply;
use super::wait::{DEADLINE, eventually};

/// A running gateway. Dropping it kills the process; its log is printed if the test failed.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    pub address: SocketAddr,
    /// Shared with the gateway that follows a restart.
    home: Arc<TempDir>,
    setup: Setup,
    key: Option<String>,
    client: Client,
}

impl Gateway {
    /// Starts and waits until every tier has loaded.
    pub async fn start(setup: Setup) -> Self {
        let gateway = Self::spawn(setup, Arc::new(TempDir::new().expect("a temporary folder")));
        gateway.ready().await
    }

    /// Starts in the data folder of an earlier gateway.
    pub async fn start_in(setup: Setup, home: Arc<TempDir>) -> Self {
        Self::spawn(setup, home).ready().await
    }

    /// Starts without waiting. Arguments before the program let a test set limits.
    pub fn spawn(setup: Setup, home: Arc<TempDir>) -> Self {
        Self::spawn_under(&[], setup, home)
    }

    /// The same with a wrapper in front of the program, such as `prlimit --fsize=N`.
    pub fn spawn_under(wrapper: &[&str], setup: Setup, home: Arc<TempDir>) -> Self {
        let address = free_address();
        std::fs::write(home.path().join("reprise.toml"), setup.toml()).expect("the configuration is written");
        let log = File::options().create(true).append(true).open(log_of(home.path())).expect("a log file");
        let mut words: Vec<&str> = wrapper.to_vec();
        words.push(env!("CARGO_BIN_EXE_reprise"));
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .arg("serve")
            .arg("--config")
            .arg(home.path().join("reprise.toml"))
            .arg("--listen")
            .arg(address.to_string())
            .arg("--data-dir")
            .arg(home.path().join("data"))
            .current_dir(home.path())
            .env_remove("REPRISE_ADMIN_KEY")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file twice"))
            .stderr(log);
        if let Some(key) = setup.admin_key {
            command.env("REPRISE_ADMIN_KEY", key);
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { child, address, home, setup, key: None, client }
    }

    /// Waits until every tier has loaded.
    pub async fn ready(mut self) -> Self {
        let url = self.url("/readyz");
        let began = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                panic!("the gateway ended with {status} before it was ready");
            }
            if let Ok(response) = self.client.get(&url).send().await {
                let status = response.status();
                let body = response.text().await.unwrap_or_default();
                match tiers(&body) {
                    Tiers::Settled if status.is_success() => return self,
                    Tiers::Failed => panic!("no tier will ever be ready: {body}"),
                    _ => {}
                }
            }
            assert!(began.elapsed() < DEADLINE, "the gateway does not become ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every further request carries this key.
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn home(&self) -> Arc<TempDir> {
        Arc::clone(&self.home)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub fn setup(&self) -> Setup {
        self.setup.clone()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(log_of(self.home.path())).unwrap_or_default()
    }

    /// A request with the key, if one is set.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, self.url(path));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        Reply::read(self.request(Method::GET, path).send().await.expect("an answer")).await
    }

    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Reply {
        Reply::read(self.request(method, path).json(body).send().await.expect("an answer")).await
    }

    pub async fn chat(&self, body: &Value) -> Reply {
        self.send(Method::POST, "/v1/chat/completions", body).await
    }

    /// A chat request with further headers.
    pub async fn chat_with(&self, body: &Value, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.request(Method::POST, "/v1/chat/completions").json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Reply::read(request.send().await.expect("an answer")).await
    }

    /// Raw bytes as the body.
    pub async fn chat_raw(&self, body: impl Into<reqwest::Body>) -> Reply {
        let request =
            self.request(Method::POST, "/v1/chat/completions").header("content-type", "application/json");
        Reply::read(request.body(body).send().await.expect("an answer")).await
    }

    pub async fn metrics(&self) -> Metrics {
        let reply = self.get("/metrics").await;
        assert!(reply.status.is_success(), "{reply:#?}");
        Metrics::new(reply.body)
    }

    /// Waits until a gauge or counter has the value that `wanted` asks for.
    pub async fn until(&self, name: &str, labels: &[(&str, &str)], wanted: impl Fn(f64) -> bool) -> f64 {
        eventually(&format!("{name} {labels:?}"), || async {
            let value = self.metrics().await.sum(name, labels);
            wanted(value).then_some(value)
        })
        .await
    }

    /// No sequence runs or waits and no stream is open.
    pub async fn until_idle(&self) {
        self.until("reprise_tier_running", &[], |value| value == 0.0).await;
        self.until("reprise_tier_queue_depth", &[], |value| value == 0.0).await;
        self.until("reprise_open_streams", &[], |value| value == 0.0).await;
    }

    /// The examples of a tenant, once there are at least `count`.
    pub async fn examples(&self, tenant: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} examples of {tenant}"), || async {
            let reply = self.get(&format!("/admin/v1/examples?tenant={tenant}&order=recent&limit=50")).await;
            let data = reply.json()["data"].as_array().expect("a list of examples").clone();
            (data.len() >= count).then_some(data)
        })
        .await
    }

    /// The exit status, if the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process can be asked")
    }

    pub async fn until_exited(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(began.elapsed() < DEADLINE, "the gateway does not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a tenant has used, as the ledger has it.
    pub async fn used(&self, tenant: &str) -> Value {
        let request = self.client.get(self.url(&format!("/admin/v1/usage?tenant={tenant}")));
        let request = match self.setup.admin_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let reply = Reply::read(request.send().await.expect("an answer")).await;
        reply.json()["data"][0].clone()
    }

    /// Prompt and completion tokens that it has used so far.
    pub async fn used_tokens(&self, tenant: &str) -> u64 {
        let used = self.used(tenant).await;
        let of = |name: &str| used["ever"][name].as_u64().unwrap_or_default();
        of("prompt_tokens") + of("completion_tokens")
    }

    /// Replaces the configuration file, as an editor does.
    pub fn rewrite(&self, toml: &str) {
        let (path, aside) =
            (self.home.path().join("reprise.toml"), self.home.path().join("reprise.toml.new"));
        std::fs::write(&aside, toml).expect("the configuration is written");
        std::fs::rename(aside, path).expect("the configuration is renamed");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM: the gateway drains, flushes and ends.
    pub fn terminate(&self) {
        let pid = self.child.id();
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {pid}")).status().expect("a shell");
        assert!(sent.success());
    }

    /// SIGKILL, as a crash: nothing is flushed.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process is waited for");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the gateway on {}\n{}", self.address, self.log());
        }
    }
}

/// What `/readyz` says of the tiers, all together.
enum Tiers {
    Loading,
    /// Each is ready or has failed.
    Settled,
    Failed,
}

fn tiers(readyz: &str) -> Tiers {
    let told: Value = serde_json::from_str(readyz).unwrap_or_default();
    let states: Vec<&Value> =
        told["tiers"].as_array().into_iter().flatten().map(|tier| &tier["state"]).collect();
    if states.is_empty() || states.iter().any(|state| **state == "loading") {
        Tiers::Loading
    } else if states.iter().all(|state| **state == "failed") {
        Tiers::Failed
    } else {
        Tiers::Settled
    }
}

fn log_of(home: &Path) -> PathBuf {
    home.join("reprise.log")
}

/// A port that nobody listens on now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address")
}
