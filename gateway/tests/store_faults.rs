//! Crashes, damaged files and full disks: the cache may be lost, the service may not.
#![cfg(test)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use support::upstream::{Script, Upstream};
use support::{CAPITAL, CAPITAL_AGAIN, Gateway, Setup, ask, ask_for_long};
use tempfile::TempDir;

fn setup() -> Setup {
    Setup::small().router("policy = \"small-examples\"")
}

/// A gateway that remembers one example, and has flushed it by an orderly end.
async fn home_with_an_example() -> Arc<TempDir> {
    let mut gateway = Gateway::start(setup()).await;
    assert!(gateway.chat(&ask("auto", CAPITAL)).await.status.is_success());
    gateway.examples("default", 1).await;
    gateway.terminate();
    assert!(gateway.until_exited().await.success());
    gateway.home()
}

#[tokio::test]
async fn what_was_flushed_survives_a_kill() {
    let home = home_with_an_example().await;
    let mut gateway = Gateway::start_in(setup(), Arc::clone(&home)).await;
    let hit = gateway.chat(&ask("auto", CAPITAL)).await;
    assert_eq!(hit.cache(), "HIT", "an orderly end keeps the exact answers");

    // Killed while it computes and while it admits.
    let stories: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn(
                gateway
                    .request(reqwest::Method::POST, "/v1/chat/completions")
                    .json(&ask_for_long("small"))
                    .send(),
            )
        })
        .collect();
    gateway.until("reprise_tier_running", &[], |value| value >= 1.0).await;
    gateway.kill();
    for story in stories {
        let outcome = story.await.expect("the task ends");
        assert!(outcome.is_err() || outcome.is_ok_and(|response| response.status().is_success()));
    }

    let gateway = Gateway::start_in(setup(), home).await;
    let requests: Vec<Value> =
        gateway.examples("default", 1).await.iter().map(|example| example["request"].clone()).collect();
    assert!(requests.contains(&Value::from(CAPITAL)), "{requests:?}");
    assert_eq!(gateway.chat(&ask("auto", CAPITAL)).await.cache(), "HIT");
    assert_eq!(
        gateway.chat(&ask("auto", CAPITAL_AGAIN)).await.cache(),
        "EXAMPLES",
        "the index is rebuilt from the store"
    );
    assert_eq!(
        gateway.metrics().await.sum("reprise_store_recoveries_total", &[]),
        0.0,
        "nothing was damaged"
    );
}

#[tokio::test]
async fn a_damaged_store_is_set_aside() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("zeroes over the head", |file| overwrite(file, 0, &[0; 4096])),
        ("noise in the middle", |file| overwrite(file, length(file) / 3, &noise(8192))),
        ("noise everywhere", |file| {
            overwrite(file, 0, &noise(usize::try_from(length(file)).expect("a small file")));
        }),
        ("cut in half", |file| truncate(file, length(file) / 2)),
    ];
    let intact = home_with_an_example().await;
    for (name, damage) in damages {
        let home = copy_of(&intact);
        let files = store_files(&home.path().join("data"));
        assert!(!files.is_empty(), "the store has files");
        for file in &files {
            damage(file);
        }
        let gateway = Gateway::start_in(setup(), home).await;
        let reply = gateway.chat(&ask("auto", CAPITAL)).await;
        assert!(reply.status.is_success(), "{name}: {reply:#?}");
        let recoveries = gateway.metrics().await.sum("reprise_store_recoveries_total", &[]);
        if reply.cache() == "HIT" {
            assert_eq!(recoveries, 0.0, "{name}: sled healed itself");
        } else {
            assert!(recoveries >= 1.0, "{name}: it says that it starts cold");
            let aside = siblings_named(&gateway.home().path().join("data"), "damaged-");
            assert!(!aside.is_empty(), "{name}: the damaged store is kept beside the new one");
            assert!(gateway.log().contains("damaged"), "{name}: the log tells of it");
        }
        // It remembers again.
        gateway.examples("default", 1).await;
        assert_eq!(gateway.chat(&ask("auto", CAPITAL)).await.cache(), "HIT", "{name}");
    }
}

#[tokio::test]
async fn a_full_disk_costs_the_cache_and_not_the_answer() {
    // RLIMIT_FSIZE: every write past this size of a file fails, as on a full disk. An upstream answers, so that many
    // requests take little time.
    let upstream = Upstream::start(Script::Answer("That is one more.")).await;
    let setup = Setup::empty().remote("small", 0.1, &upstream.base_url);
    let home = Arc::new(TempDir::new().expect("a temporary folder"));
    let mut gateway = Gateway::spawn_under(&["prlimit", "--fsize=1000000"], setup, home).ready().await;
    for index in 0..150 {
        let question =
            format!("What is {index} plus one? {}", format!("Explain it to number {index}. ").repeat(200));
        let reply = gateway.chat(&ask("auto", &question)).await;
        assert!(reply.status.is_success(), "request {index}: {reply:#?}");
    }
    let failed =
        gateway.until("reprise_cache_admissions_total", &[("result", "failed")], |count| count > 0.0);
    assert!(failed.await > 0.0);
    assert!(gateway.exited().is_none(), "the gateway lives");
    assert!(gateway.get("/livez").await.status.is_success());
    assert_eq!(gateway.metrics().await.sum("reprise_panics_total", &[]), 0.0);
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_made_is_an_error_and_not_a_hang() {
    let home = Arc::new(TempDir::new().expect("a temporary folder"));
    // A file stands where the folder should.
    std::fs::write(home.path().join("data"), "in the way").expect("a file");
    let mut gateway = Gateway::spawn(setup(), home);
    let status = gateway.until_exited().await;
    assert!(!status.success());
    let log = gateway.log();
    assert!(log.contains("data"), "it names the folder: {log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn two_gateways_do_not_share_a_store() {
    let first = Gateway::start(setup()).await;
    let mut second = Gateway::spawn(setup(), first.home());
    let status = second.until_exited().await;
    assert!(!status.success(), "the second refuses");
    assert!(
        siblings_named(&first.data_dir(), "damaged-").is_empty(),
        "and does not take the first one's store for damaged"
    );
    assert!(first.chat(&ask("auto", CAPITAL)).await.status.is_success());
}

/// Every file of the data folder that belongs to the store, deepest first.
fn store_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(store_files(&entry));
        } else if entry
            .file_name()
            .is_some_and(|name| name == "db" || name == "conf" || name.to_string_lossy().starts_with("snap."))
        {
            found.push(entry);
        }
    }
    found
}

/// Entries below or beside the folder whose name holds `part`.
fn siblings_named(folder: &Path, part: &str) -> Vec<PathBuf> {
    let parent = folder.parent().expect("a parent");
    [folder, parent]
        .iter()
        .filter_map(|place| std::fs::read_dir(place).ok())
        .flat_map(|entries| entries.map(|entry| entry.expect("an entry").path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)))
        .collect()
}

fn copy_of(home: &TempDir) -> Arc<TempDir> {
    let copy = TempDir::new().expect("a temporary folder");
    copy_folder(&home.path().join("data"), &copy.path().join("data"));
    Arc::new(copy)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy_folder(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).expect("a copy");
        }
    }
}

fn length(file: &Path) -> u64 {
    file.metadata().expect("a file").len()
}

fn truncate(file: &Path, to: u64) {
    std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|file| file.set_len(to))
        .expect("a shorter file");
}

/// Within the file's length: the file does not grow.
fn overwrite(file: &Path, offset: u64, bytes: &[u8]) {
    use std::io::{Seek as _, SeekFrom, Write as _};
    let room = usize::try_from(length(file).saturating_sub(offset)).expect("a small file");
    let mut open = std::fs::OpenOptions::new().write(true).open(file).expect("the file");
    open.seek(SeekFrom::Start(offset)).expect("the place");
    open.write_all(&bytes[..bytes.len().min(room)]).expect("the damage");
}

/// The same noise in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..length).map(|_| next()).collect()
}
