//! The probe as the gateway runs it: a child process with a deadline. The child is this test binary, told by a variable
//! to check a folder.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use proptest::prelude::*;
use reprise_cache::{Probe, Recovery, SledStore, Store, check, open_or_recover};

use crate::support::*;

const FOLDER: &str = "REPRISE_TEST_CHECK_FOLDER";
const SOUND: &str = "the store is sound";

#[test]
fn child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        match check(Path::new(&folder)) {
            Ok(_) => println!("{SOUND}"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Blocks until the child has ended or was killed, so that its lock on the store is gone.
fn probe(folder: &Path) -> Probe {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "damaged::child", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (said, hear) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).ok();
        said.send(text).ok();
    });
    let verdict = match hear.recv_timeout(Duration::from_secs(20)) {
        Ok(text) if text.contains(SOUND) => Probe::Sound,
        Ok(text) => Probe::Damaged(text),
        Err(_) => Probe::TimedOut,
    };
    child.kill().ok();
    child.wait().unwrap();
    verdict
}

fn fill(folder: &Path) {
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder).unwrap());
    let cache = open(&store, config());
    let ana = cache.tenant(&tenant("ana"));
    for seed in 0..60 {
        ana.admit(&new(seed, &format!("request {seed}"), &"answer ".repeat(50), None), 0).unwrap();
    }
    cache.flush().unwrap();
}

/// However it comes up, it works: what is found is whole, and new things are remembered.
fn works(store: SledStore) -> usize {
    let store: Arc<dyn Store> = Arc::new(store);
    let cache = open(&store, config());
    let ana = cache.tenant(&tenant("ana"));
    let found = ana.nearest(&vector(1), 100, Instructions::NONE);
    assert!(found.iter().all(|candidate| candidate.example.request.starts_with("request ")));
    ana.admit(&new(1000, "after the damage", "a", None), 0).unwrap();
    cache.flush().unwrap();
    found.len()
}

#[test]
fn an_undamaged_store_is_found_sound_by_the_child() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("store");
    fill(&folder);
    let (store, recovery) = open_or_recover(&folder, &probe).unwrap();
    assert_eq!((recovery, works(store)), (Recovery::Clean, 60));
}

#[test]
fn a_file_of_nonsense_is_moved_aside() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("store");
    fill(&folder);
    let length = fs::metadata(folder.join("db")).unwrap().len() as usize;
    let nonsense: Vec<u8> = (0..length).map(|i| (i * 31 % 251) as u8).collect();
    fs::write(folder.join("db"), nonsense).unwrap();
    let (store, recovery) = open_or_recover(&folder, &probe).unwrap();
    assert_ne!(recovery, Recovery::Clean);
    assert_eq!(works(store), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 0, ..ProptestConfig::default() })]
    /// Bytes overwritten or cut off anywhere in sled's files.
    #[test]
    fn no_damage_keeps_the_cache_from_coming_up(
        at in 0.0_f64..1.0, length in 1_usize..8192, flip in 1_u8..=255, cut: bool, which in 0_usize..3,
    ) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("store");
        fill(&folder);
        let mut files: Vec<_> =
            fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.sort();
        let file = &files[which % files.len()];
        let mut bytes = fs::read(file).unwrap();
        let from = (bytes.len() as f64 * at) as usize;
        let until = (from + length).min(bytes.len());
        if cut { bytes.truncate(from) } else { bytes[from..until].iter_mut().for_each(|byte| *byte ^= flip) }
        fs::write(file, bytes).unwrap();
        let (store, recovery) = open_or_recover(&folder, &probe).unwrap();
        let found = works(store);
        prop_assert!(found == 60 || recovery != Recovery::Clean, "{found} of 60, {recovery:?}, {}", file.display());
    }
}
