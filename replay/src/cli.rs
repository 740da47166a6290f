use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use reprise_replay::gateway::chat::CacheUse;
use reprise_replay::gateway::{Gateway, GatewayError, Keys};
use reprise_replay::harness::arm::Arm;
use reprise_replay::harness::outcome;
use reprise_replay::simulate::machine::NamedSpeed;
use reprise_router::PolicyKind;
use secrecy::SecretString;

#[derive(Debug, Parser)]
#[command(
    name = "reprise-replay",
    version,
    about = "Import, curate, replay and report, against a Reprise gateway"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import known good pairs (OpenAI chat JSONL, optional "quality") into a tenant's examples
    Import(Import),
    /// Ask the best tier again where an example earned little, and keep the better answer
    Curate(Curate),
    /// Send recorded requests under a policy and keep every answer as a CSV row
    Trace(Trace),
    /// Build an import file from the rows that a trace with the same sample does not ask
    Pool(Pool),
    /// Generate what the table of runs lacks: each distinct prompt once, at temperature 0
    Collect(Box<Collect>),
    /// Build an import file from a tier's own answers in the table, curated or as they are
    Answers(Answers),
    /// Train the utility model on the table's outcomes, and report how good it is on unseen requests
    Learn(Learn),
    /// Evaluate a policy from the table, in virtual time
    Simulate(Box<Simulate>),
    /// Every policy and every arm of the table, one request at a time: score, win rate, tokens, seconds
    Policies(Policies),
    /// Compare eviction policies at byte budgets, from the table
    Evict(Evict),
    /// Turn traces into one self-contained HTML report, with the raw CSV beside it
    Report(Report),
}

#[derive(Debug, Args)]
pub struct Connection {
    /// Address of the gateway
    #[arg(long, value_name = "URL", env = "REPRISE_GATEWAY")]
    pub gateway: String,
    /// Admin key; none is needed for a gateway on loopback without one
    #[arg(long, env = "REPRISE_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<SecretString>,
    /// Key for /v1, which also names the tenant; without one the admin key is used
    #[arg(long, env = "REPRISE_API_KEY", hide_env_values = true)]
    pub api_key: Option<SecretString>,
    /// PEM file of authorities that are trusted as well, where the gateway's certificate is of a private one
    #[arg(long, value_name = "FILE", env = "REPRISE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
}

impl Connection {
    pub fn open(&self) -> Result<Gateway, GatewayError> {
        let keys = Keys { admin: self.admin_key.clone(), api: self.api_key.clone() };
        Gateway::trusting(&self.gateway, keys, self.ca_file.as_deref())
    }
}

#[derive(Debug, Args)]
pub struct Import {
    #[command(flatten)]
    pub connection: Connection,
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Succeed although lines were refused
    #[arg(long)]
    pub lenient: bool,
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct Curate {
    #[command(flatten)]
    pub connection: Connection,
    /// Tenants whose examples are curated
    #[arg(long = "tenant", value_name = "TENANT", default_value = "default")]
    pub tenants: Vec<String>,
    /// Tokens to spend in one run, prompts and answers of all asks
    #[arg(long, value_name = "N")]
    pub budget_tokens: Option<u64>,
    /// One run, then exit; otherwise one every --interval-s
    #[arg(long)]
    pub once: bool,
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub interval_s: u64,
    /// Answers to ask for at --temperature, beside one at 0
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub samples: u32,
    #[arg(long, default_value_t = 0.8)]
    pub temperature: f64,
    #[arg(long, default_value_t = 512)]
    pub max_tokens: u32,
    /// Who decides which answer is best; never a model that wrote one of them
    #[arg(long, value_enum, default_value_t = JudgeArg::Agreement)]
    pub judge: JudgeArg,
    /// For --judge reference: requests with references, JSONL
    #[arg(long = "references", value_name = "FILE", required_if_eq("judge", "reference"))]
    pub references: Vec<PathBuf>,
    /// For --judge remote: base address of any OpenAI-compatible server
    #[arg(long, value_name = "URL", required_if_eq("judge", "remote"))]
    pub judge_url: Option<String>,
    /// For --judge remote: the model to ask there
    #[arg(long, value_name = "MODEL", required_if_eq("judge", "remote"))]
    pub judge_model: Option<String>,
    /// For --judge remote
    #[arg(long, env = "REPRISE_JUDGE_KEY", hide_env_values = true)]
    pub judge_key: Option<SecretString>,
    /// Hours over which expected reuses are counted
    #[arg(long, value_name = "HOURS", default_value_t = 24.0)]
    pub horizon_h: f64,
    /// Examples replayed so often are left alone
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub max_replays: u32,
    /// Examples of each tenant to look at, most replay gain first
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub max_candidates: usize,
    /// Also replace answers that no tier wrote, such as imported references
    #[arg(long)]
    pub replace_imported: bool,
    /// How long to wait for an idle pool
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub idle_wait_s: u64,
    /// Where the journal is kept [default: $STATE_DIRECTORY, else the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Show what would be replayed, and ask nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum JudgeArg {
    /// What the best tier says again and again
    Agreement,
    /// Known references
    Reference,
    /// A tier that wrote neither answer, side by side in both orders (needs a third tier)
    Tier,
    /// A model elsewhere, side by side in both orders
    Remote,
}

/// Which rows of each file are asked. The same values choose the same rows on any machine.
#[derive(Debug, Args)]
pub struct Sampling {
    /// Requests with references, JSONL
    #[arg(long = "requests", value_name = "FILE", required = true)]
    pub requests: Vec<PathBuf>,
    /// Rows of each file, chosen by a hash of seed and id; all by default
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Rows of each file to pass over in that order
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: usize,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct Trace {
    #[command(flatten)]
    pub connection: Connection,
    #[command(flatten)]
    pub sampling: Sampling,
    /// Recorded arrivals (CSV with arrival_s): open loop. Without: closed loop, one request at a time
    #[arg(long, value_name = "FILE")]
    pub arrivals: Option<PathBuf>,
    /// Arrival times are multiplied by this: 2 halves the rate
    #[arg(long, default_value_t = 1.0, requires = "arrivals")]
    pub scale: f64,
    /// Arrivals to pass over
    #[arg(long, default_value_t = 0, requires = "arrivals")]
    pub arrivals_offset: usize,
    /// Routing policy during the run; the one before is set again at the end
    #[arg(long)]
    pub policy: String,
    /// Name of the run in reports; the policy by default
    #[arg(long)]
    pub label: Option<String>,
    /// Folder for rows.csv, answers.jsonl and run.json
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub passes: u32,
    #[arg(long, default_value_t = 256)]
    pub max_tokens: u32,
    /// What the run may do with the cache; read-only uses examples but remembers nothing
    #[arg(long, value_enum, default_value_t = CacheArg::ReadOnly)]
    pub cache: CacheArg,
    /// Let the gateway answer a repeated request from the store; always so under the policy reuse
    #[arg(long)]
    pub exact_reuse: bool,
    /// Rate each answer with its task score; this teaches the router under every policy, not only under the bandit
    #[arg(long)]
    pub feedback: bool,
    /// Without --arrivals: clients, each of which sends its next request when it has its answer
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "arrivals")]
    pub clients: u16,
    /// With --arrivals: requests in flight at most; one that has to wait is recorded as late
    #[arg(long, default_value_t = 64)]
    pub concurrency_cap: usize,
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout_s: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CacheArg {
    On,
    ReadOnly,
    Off,
}

impl From<CacheArg> for CacheUse {
    fn from(arg: CacheArg) -> Self {
        match arg {
            CacheArg::On => Self::On,
            CacheArg::ReadOnly => Self::ReadOnly,
            CacheArg::Off => Self::Off,
        }
    }
}

#[derive(Debug, Args)]
pub struct Pool {
    #[command(flatten)]
    pub sampling: Sampling,
    /// Import file to write
    #[arg(long)]
    pub out: PathBuf,
    /// Pairs of each file at most
    #[arg(long, value_name = "N")]
    pub per_file: Option<usize>,
    /// Quality the references are imported with
    #[arg(long, default_value_t = 1.0)]
    pub quality: f32,
}

#[derive(Debug, Args)]
pub struct Collect {
    #[command(flatten)]
    pub connection: Connection,
    #[command(flatten)]
    pub sampling: Sampling,
    /// Folder of the table of runs; it grows
    #[arg(long, value_name = "DIR")]
    pub table: PathBuf,
    /// Tier to ask
    #[arg(long)]
    pub tier: String,
    /// The tier's model file, whose SHA-256 is part of every run's key
    #[arg(long, value_name = "FILE", required_unless_present = "model_hash")]
    pub weights: Option<PathBuf>,
    /// That SHA-256, where it is known: a large file takes seconds to read
    #[arg(long, value_name = "SHA256", conflicts_with = "weights")]
    pub model_hash: Option<String>,
    #[arg(long, default_value = "all-minilm-l6-v2")]
    pub embedder: String,
    /// Ways to make a prompt: plain, near-K, random-K, rank-R, prior-K, model-K
    #[arg(long = "arm", value_name = "ARM", required = true)]
    pub arms: Vec<Arm>,
    /// For model-K: what `learn` wrote
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Pool: pairs of each file at most
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub pool_per_file: usize,
    /// Pool: these pairs (OpenAI chat JSONL), not the references of rows that are not asked
    #[arg(long, value_name = "FILE", requires = "pool")]
    pub pairs: Option<PathBuf>,
    /// Name in the outcomes of the part of the data that is asked
    #[arg(long, value_name = "NAME", default_value = outcome::TEST)]
    pub split: String,
    /// Name of the pool in the outcomes
    #[arg(long, value_name = "NAME", default_value = outcome::REFERENCES)]
    pub pool: String,
    #[arg(long, default_value_t = 32)]
    pub max_tokens: u32,
    /// Of one set: SET=N, its file's name without extension
    #[arg(long = "max-tokens-of", value_name = "SET=N", value_parser = limit_of_set)]
    pub max_tokens_of: Vec<(String, u32)>,
    #[arg(long, default_value_t = 4)]
    pub concurrency: usize,
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout_s: u64,
}

fn limit_of_set(text: &str) -> Result<(String, u32), String> {
    let (set, limit) = text.split_once('=').ok_or("SET=N, such as gsm8k_test=256")?;
    Ok((set.to_owned(), limit.parse().map_err(|error| format!("{limit:?}: {error}"))?))
}

#[derive(Debug, Args)]
pub struct Answers {
    /// Folder of the table of runs
    #[arg(long, value_name = "DIR")]
    pub table: PathBuf,
    /// Requests that the table has answers to, JSONL
    #[arg(long = "requests", value_name = "FILE", required = true)]
    pub requests: Vec<PathBuf>,
    #[arg(long)]
    pub tier: String,
    /// Split whose requests are remembered
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub split: String,
    /// Arm whose answer is remembered
    #[arg(long, default_value = "plain")]
    pub arm: Arm,
    /// Arms that may have a better one: what curation would have drawn
    #[arg(long = "better", value_name = "ARM")]
    pub better: Vec<Arm>,
    /// Who decides whether one is better
    #[arg(long, value_enum, default_value_t = AnswersJudge::Reference)]
    pub judge: AnswersJudge,
    /// Import file to write
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AnswersJudge {
    Reference,
    Agreement,
}

#[derive(Debug, Args)]
pub struct Learn {
    /// Folder of the table of runs
    #[arg(long, value_name = "DIR")]
    pub table: PathBuf,
    /// Model file to write; its report is written beside it
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Gateway whose rated answers are added to the table first
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// Gateway to deliver the model to
    #[arg(long, value_name = "URL")]
    pub install: Option<String>,
    #[arg(long, env = "REPRISE_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<SecretString>,
    /// PEM file of authorities that are trusted as well, where the gateway's certificate is of a private one
    #[arg(long, value_name = "FILE", env = "REPRISE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct Simulate {
    /// Folder of the table of runs
    #[arg(long, value_name = "DIR")]
    pub table: PathBuf,
    /// Logged arm that stands for "with examples"
    #[arg(long, default_value = "near-5")]
    pub examples: String,
    /// Pool that those examples are from
    #[arg(long, value_name = "NAME", default_value = outcome::REFERENCES)]
    pub pool: String,
    /// Part of the data that is sent
    #[arg(long, value_name = "NAME", default_value = outcome::TEST)]
    pub split: String,
    #[arg(long)]
    pub policy: PolicyKind,
    /// Name of the run in reports; the policy by default
    #[arg(long)]
    pub label: Option<String>,
    /// Speed of a tier, measured: NAME:prefill=N,decode=N[,batch=G][,slots=N][,queue=N][,kv=N][,apart]
    #[arg(long = "speed", value_name = "SPEED", required = true)]
    pub speeds: Vec<NamedSpeed>,
    /// Recorded arrivals (CSV with arrival_s): open loop. Without: one request at a time
    #[arg(long, value_name = "FILE")]
    pub arrivals: Option<PathBuf>,
    /// Arrivals come so fast that the dearest tier without examples would be so busy: 1 is its capacity
    #[arg(long, value_name = "X", requires = "arrivals", default_value_t = 1.0)]
    pub load: f64,
    /// Requests to send; those of the table are repeated in another order until there are as many
    #[arg(long, value_name = "N")]
    pub requests: Option<usize>,
    /// Tells the router each answer's score
    #[arg(long)]
    pub feedback: bool,
    /// Split that the router has learned from before, one request at a time
    #[arg(long, value_name = "NAME")]
    pub teach: Option<String>,
    /// Charge prompt tokens that were in KV memory as if they were computed
    #[arg(long)]
    pub compute_all: bool,
    /// Ablation: no load bias
    #[arg(long)]
    pub no_load_bias: bool,
    /// Load bias: score that an arm of cost 1 loses at full load
    #[arg(long)]
    pub lambda0: Option<f64>,
    /// Load bias: the load under which quality alone decides
    #[arg(long)]
    pub theta: Option<f64>,
    /// Load bias: seconds of queued work that count as full
    #[arg(long)]
    pub capacity_s: Option<f64>,
    /// For policy static-threshold
    #[arg(long)]
    pub similarity_threshold: Option<f64>,
    /// For policy win-probability
    #[arg(long)]
    pub win_threshold: Option<f64>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder for rows.csv, run.json and moments.csv
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct Policies {
    /// Folder of the table of runs
    #[arg(long, value_name = "DIR")]
    pub table: PathBuf,
    /// Arms that show examples, POOL/ARM; the first is the one that learned policies use
    #[arg(long = "examples", value_name = "POOL/ARM", value_parser = pool_and_arm, default_value = "references/prior-5")]
    pub shows: Vec<(String, String)>,
    /// Speed of a tier, measured, as for simulate
    #[arg(long = "speed", value_name = "SPEED", required = true)]
    pub speeds: Vec<NamedSpeed>,
    /// Split that classifier and bandit are taught on
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub train: String,
    #[arg(long = "seed", default_values_t = [1, 2, 3])]
    pub seeds: Vec<u64>,
    /// Folder for policies.csv, arms.csv, drift.csv, drift-steps.csv and outcomes.csv
    #[arg(long)]
    pub out: PathBuf,
}

fn pool_and_arm(text: &str) -> Result<(String, String), String> {
    let (pool, arm) = text.split_once('/').ok_or("POOL/ARM, such as references/prior-5")?;
    arm.parse::<Arm>().map_err(|error| error.to_string())?;
    Ok((pool.to_owned(), arm.to_owned()))
}

#[derive(Debug, Args)]
pub struct Evict {
    /// Folder of the table of runs
    #[arg(long, value_name = "DIR")]
    pub table: PathBuf,
    /// Shares of the bytes of all examples
    #[arg(long = "budget", value_name = "SHARE", default_values_t = [1.0, 0.5, 0.2, 0.05])]
    pub budgets: Vec<f64>,
    /// Tier that answers
    #[arg(long, default_value = "small")]
    pub tier: String,
    /// Pool that examples are from
    #[arg(long, value_name = "NAME", default_value = outcome::REFERENCES)]
    pub pool: String,
    /// Split that is asked before the eviction
    #[arg(long, value_name = "NAME", default_value = outcome::TEST)]
    pub before: String,
    /// Split that is asked after it, each request once; without it the stream before goes on
    #[arg(long, value_name = "NAME")]
    pub after: Option<String>,
    /// Requests before the eviction
    #[arg(long, default_value_t = 2000)]
    pub length: usize,
    #[arg(long, default_value_t = 250.0)]
    pub per_hour: f64,
    /// Exponent of the Zipf law by which requests are drawn; 0 draws all alike
    #[arg(long, default_value_t = 1.0)]
    pub skew: f64,
    #[arg(long = "seed", default_values_t = [1, 2, 3])]
    pub seeds: Vec<u64>,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Folders that trace wrote, one per run
    #[arg(required = true)]
    pub dirs: Vec<PathBuf>,
    /// HTML file; its rows and summary, as CSV and Markdown, are written beside it
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long, default_value = "Reprise: replay report")]
    pub title: String,
}

impl Sampling {
    pub fn sample(&self) -> reprise_replay::data::sample::Sample {
        reprise_replay::data::sample::Sample { seed: self.seed, offset: self.offset, limit: self.limit }
    }
}
