//! The command line: what it refuses, and how it says so.
#![cfg(test)]

use std::process::{Command, Output};

use tempfile::TempDir;

fn reprise(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reprise"))
        .args(arguments)
        .env_remove("REPRISE_ADMIN_KEY")
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Checks a configuration; gives what was said if it was refused.
fn refusal(toml: &str) -> Option<String> {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("reprise.toml");
    std::fs::write(&file, toml).expect("a configuration");
    let output = reprise(&["config", "check", "--config", &file.to_string_lossy()]);
    (!output.status.success()).then(|| text(&output.stderr))
}

#[test]
fn a_configuration_is_refused_with_the_path_of_what_is_wrong() {
    for (toml, names) in [
        ("[server]\nmax_body_byte = 5\n", "server.max_body_byte"),
        ("[cache]\nsimilarity_floor = \"high\"\n", "cache.similarity_floor"),
        ("[cache]\nsimilarity_floor = 7.0\n", "cache.similarity_floor"),
        ("[[tiers]]\nname = \"a\"\n", "tiers"),
        ("[[tiers]]\nname = \"a\"\nmodel = \"m\"\ncost = -1.0\n", "cost"),
        ("[router]\npolicy = \"by-the-stars\"\n", "router.policy"),
        ("[router]\ndefault_tier = \"nobody\"\n", "default_tier"),
        ("listen = \"everywhere\"\n", "listen"),
        ("[[auth.keys]]\nname = \"k\"\ntenant = \"t\"\nkey_sha256 = \"short\"\n", "key_sha256"),
        ("[[auth.keys]]\nname = \"k\"\ntenant = \"no spaces\"\nkey_sha256 = \"00\"\n", "auth.keys"),
        ("[[tiers]]\nname = \"r\"\nbase_url = \"nonsense\"\nmodel = \"m\"\n", "base_url"),
        (
            "[[tiers]]\nname = \"r\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\napi_key_env = \"NOT_SET_ANYWHERE\"\n",
            "NOT_SET_ANYWHERE",
        ),
    ] {
        let said = refusal(toml).unwrap_or_else(|| panic!("accepted: {toml}"));
        assert!(said.contains(names), "{toml} -> {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    assert_eq!(refusal(""), None, "every section is optional");
}

#[test]
fn beyond_loopback_it_wants_keys() {
    let said = refusal("listen = \"0.0.0.0:8080\"\n").expect("refused");
    assert!(said.contains("key"), "{said}");
}

#[test]
fn what_it_prints_it_accepts() {
    let printed = reprise(&["config", "print"]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let printed = text(&printed.stdout);
    assert!(printed.contains("small") && printed.contains("large"), "{printed}");
    assert_eq!(refusal(&printed), None);
}

#[test]
fn models_are_listed_with_their_licences() {
    let output = reprise(&["models", "list"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let listed = text(&output.stdout);
    for word in
        ["smollm2-135m-instruct-q4_1", "qwen2.5-coder-1.5b-instruct-q4_k_m", "all-minilm-l6-v2", "Apache-2.0"]
    {
        assert!(listed.contains(word), "no {word} in {listed}");
    }
    let unknown = reprise(&["models", "pull", "no-such-model"]);
    assert!(!unknown.status.success());
    assert!(text(&unknown.stderr).contains("no-such-model"));
}

#[test]
fn wrong_arguments_end_with_usage() {
    for arguments in
        [&["serve", "--listen", "nowhere"][..], &["fly"], &["serve", "--config", "/no/such/file.toml"]]
    {
        let output = reprise(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(!output.stderr.is_empty() && !text(&output.stderr).contains("panicked"), "{arguments:?}");
    }
    assert!(reprise(&["--version"]).status.success());
}

/// Of `reprise bench expert-parallel`, whole rounds at least, an adaptive schedule before each of another.
#[test]
fn schedules_of_a_bench_take_turns() {
    let bench = |schedules: &str| {
        let times = ["--turn-seconds", "0.2", "--seconds", "0.1", "--warm-up-seconds", "0.1"];
        let load = ["--model", "random:olmoe-tiny", "--workload", "tiny", "--batch", "4"];
        reprise(
            &[&["bench", "expert-parallel", "--scheduler", schedules, "--devices", "2"][..], &times, &load]
                .concat(),
        )
    };
    let output = bench("lockstep,adaptive+1,roofline+1");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    let turns = report["turns"].as_array().expect("turns");
    let names: Vec<_> = turns.iter().map(|turn| turn["scheduler"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["adaptive+1", "lockstep", "adaptive+1", "roofline+1"]);
    assert_eq!(turns[3]["free_share"], 1.0, "{report}");
    assert_eq!(turns[1]["copies_share"], 0.0, "{report}");
    let output = bench("lockstep,mtfs");
    assert!(!output.status.success() && text(&output.stderr).contains("`mtfs` takes no turns"));
}
