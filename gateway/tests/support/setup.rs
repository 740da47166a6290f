//! The configuration of a gateway under test: the real small model, and no other unless a test adds it.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The key of the administrator, where a test sets one.
pub const ADMIN_KEY: &str = "admin-key-of-the-tests";

#[derive(Debug, Clone)]
pub struct Setup {
    server: String,
    auth: String,
    tiers: String,
    cache: String,
    router: String,
    ledger: String,
    resilience: String,
    telemetry: String,
    pub admin_key: Option<&'static str>,
}

impl Setup {
    /// The small tier alone, without keys.
    pub fn small() -> Self {
        Self::empty()
            .tier("name = \"small\"\nmodel = \"smollm2-135m-instruct-q4_1\"\ncost = 0.1\nthreads = 2\n")
    }

    /// No tier yet.
    pub fn empty() -> Self {
        Self {
            server: String::new(),
            auth: String::new(),
            tiers: String::new(),
            // The tests ask how the parts work together, not how fast a loaded machine is.
            cache: String::new(),
            router: "deadline_ms = 20000\n".to_owned(),
            ledger: String::new(),
            resilience: String::new(),
            telemetry: String::new(),
            admin_key: None,
        }
    }

    pub fn tier(mut self, lines: &str) -> Self {
        write!(self.tiers, "[[tiers]]\n{lines}\n").expect("writing to a string");
        self
    }

    /// A remote tier at the upstream of a test.
    pub fn remote(self, name: &str, cost: f32, base_url: &str) -> Self {
        self.tier(&format!(
            "name = \"{name}\"\nbase_url = \"{base_url}\"\nmodel = \"upstream-model\"\ncost = {cost}\ncontext_length = 8192\n"
        ))
    }

    pub fn server(mut self, lines: &str) -> Self {
        writeln!(self.server, "{lines}").expect("writing to a string");
        self
    }

    pub fn cache(mut self, lines: &str) -> Self {
        writeln!(self.cache, "{lines}").expect("writing to a string");
        self
    }

    pub fn router(mut self, lines: &str) -> Self {
        writeln!(self.router, "{lines}").expect("writing to a string");
        self
    }

    pub fn ledger(mut self, lines: &str) -> Self {
        writeln!(self.ledger, "{lines}").expect("writing to a string");
        self
    }

    pub fn resilience(mut self, lines: &str) -> Self {
        writeln!(self.resilience, "{lines}").expect("writing to a string");
        self
    }

    pub fn telemetry(mut self, lines: &str) -> Self {
        writeln!(self.telemetry, "{lines}").expect("writing to a string");
        self
    }

    /// A key with these limits, as lines of TOML.
    pub fn limited_key(mut self, tenant: &str, key: &str, limits: &str) -> Self {
        self = self.key(tenant, key);
        write!(self.auth, "[auth.keys.limits]\n{limits}\n").expect("writing to a string");
        self
    }

    /// Limits of all keys of a tenant together.
    pub fn tenant(mut self, tenant: &str, limits: &str) -> Self {
        write!(self.auth, "[[auth.tenants]]\ntenant = \"{tenant}\"\n[auth.tenants.limits]\n{limits}\n")
            .expect("writing to a string");
        self
    }

    /// A key of a tenant; from then on every request needs one.
    pub fn key(mut self, tenant: &str, key: &str) -> Self {
        let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        write!(
            self.auth,
            "[[auth.keys]]\nname = \"{tenant}\"\ntenant = \"{tenant}\"\nkey_sha256 = \"{hash}\"\n"
        )
        .expect("writing to a string");
        self
    }

    pub fn admin(mut self) -> Self {
        self.admin_key = Some(ADMIN_KEY);
        self
    }

    pub fn toml(&self) -> String {
        let Self { server, auth, tiers, cache, router, ledger, resilience, telemetry, .. } = self;
        format!(
            "[server]\n{server}\n[cache]\n{cache}\n[router]\n{router}\n[ledger]\n{ledger}\n[resilience]\n{resilience}\n[telemetry]\n{telemetry}\n{auth}\n{tiers}"
        )
    }
}
