//! `reprise keys`: works through the admin interface of a running gateway, which alone writes its data directory.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use http::Method;
use reqwest::{Certificate, Client};
use serde_json::{Map, Value, json};

const ADMIN_KEY: &str = "REPRISE_ADMIN_KEY";

#[derive(Debug, clap::Args)]
pub struct Keys {
    /// The gateway; its admin key is taken from REPRISE_ADMIN_KEY.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    gateway: String,
    /// PEM file of authorities that are trusted as well, where the gateway's certificate is of a private one.
    #[arg(long, global = true, value_name = "FILE", env = "REPRISE_CA_FILE")]
    ca_file: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key; its secret is printed once, on the last line.
    Create {
        #[arg(long)]
        tenant: String,
        /// What it is for.
        #[arg(long)]
        name: String,
        /// A tier that it may use, several times for several; all if left out.
        #[arg(long = "tier", value_name = "NAME")]
        tiers: Vec<String>,
        #[command(flatten)]
        limits: LimitArgs,
        /// A time such as 2027-01-31T00:00:00Z; never if left out.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// List keys, without secrets.
    List {
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Give a key a new secret.
    Rotate {
        id: String,
        /// Seconds for which the old secret holds.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        grace: u64,
    },
    /// Replace a key's limits; without options nothing limits it any more.
    Limit {
        id: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Revoke a key, for good.
    Revoke { id: String },
    /// What keys and tenants have used.
    Usage {
        #[arg(long)]
        tenant: Option<String>,
        #[arg(long)]
        key: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct LimitArgs {
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u64>,
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    #[arg(long, value_name = "N")]
    budget_tokens: Option<u64>,
    /// In the currency of the tiers' prices.
    #[arg(long, value_name = "AMOUNT")]
    budget_money: Option<f64>,
    /// day, month or total.
    #[arg(long, value_name = "PERIOD")]
    budget_period: Option<String>,
}

impl LimitArgs {
    fn body(&self) -> Value {
        let mut limits = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            limits.extend(value.map(|value| (name.to_owned(), value)));
        };
        set("requests_per_minute", self.requests_per_minute.map(Into::into));
        set("tokens_per_minute", self.tokens_per_minute.map(Into::into));
        set("budget_tokens", self.budget_tokens.map(Into::into));
        set("budget_money", self.budget_money.map(Into::into));
        set("budget_period", self.budget_period.clone().map(Into::into));
        Value::Object(limits)
    }
}

impl Keys {
    pub fn run(self) -> anyhow::Result<()> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")?;
        let told = runtime.block_on(self.call())?;
        let mut told = told;
        let secret = told.as_object_mut().and_then(|told| told.remove("secret"));
        match told.get("data").and_then(Value::as_array) {
            Some(data) => data.iter().for_each(|line| println!("{line}")),
            None => println!("{told}"),
        }
        if let Some(secret) = secret.as_ref().and_then(Value::as_str) {
            println!("{secret}");
        }
        Ok(())
    }

    fn client(&self) -> anyhow::Result<Client> {
        let mut client = Client::builder();
        if let Some(file) = &self.ca_file {
            let name = file.display();
            let pem = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
            let roots = Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("{name} holds no certificates"))?;
            ensure!(!roots.is_empty(), "{name} holds no certificates");
            client = roots.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
        }
        client.build().context("no HTTP client")
    }

    async fn call(&self) -> anyhow::Result<Value> {
        let (method, path, query, body) = match &self.action {
            Action::Create { tenant, name, tiers, limits, expires_at } => {
                let mut body = json!({"tenant": tenant, "name": name, "limits": limits.body()});
                if !tiers.is_empty() {
                    body["tiers"] = json!(tiers);
                }
                if let Some(time) = expires_at {
                    body["expires_at"] = json!(time);
                }
                (Method::POST, "keys".to_owned(), Vec::new(), Some(body))
            }
            Action::List { tenant } => (Method::GET, "keys".to_owned(), pairs(&[("tenant", tenant)]), None),
            Action::Rotate { id, grace } => {
                (Method::POST, format!("keys/{id}/rotate"), Vec::new(), Some(json!({"grace_s": grace})))
            }
            Action::Limit { id, limits } => {
                (Method::PATCH, format!("keys/{id}"), Vec::new(), Some(json!({"limits": limits.body()})))
            }
            Action::Revoke { id } => (Method::DELETE, format!("keys/{id}"), Vec::new(), None),
            Action::Usage { tenant, key } => {
                (Method::GET, "usage".to_owned(), pairs(&[("tenant", tenant), ("key", key)]), None)
            }
        };
        let url = format!("{}/admin/v1/{path}", self.gateway.trim_end_matches('/'));
        let mut request = self.client()?.request(method, url).query(&query);
        if let Ok(key) = std::env::var(ADMIN_KEY) {
            request = request.bearer_auth(key.trim());
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("no gateway at {}", self.gateway))?;
        let status = answer.status();
        let told: Value = answer.json().await.context("the gateway's answer is no JSON")?;
        if !status.is_success() {
            bail!("{status}: {}", told["error"]["message"].as_str().unwrap_or("no reason given"));
        }
        Ok(told)
    }
}

fn pairs(options: &[(&'static str, &Option<String>)]) -> Vec<(&'static str, String)> {
    options.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?.clone()))).collect()
}
