//! Whether the store opens, tried where it does no harm: in a child process with a deadline. A damaged file can make
//! sled panic, or never return.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use reprise_cache::Probe;

const DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
/// Of what the child says, the most that is kept.
const SAID: u64 = 4096;

/// Runs `reprise store check` on the store. Blocks up to the deadline.
pub fn probe(store: &Path) -> Probe {
    match start(store).and_then(wait) {
        Ok(probe) => probe,
        // No child, no verdict: a machine that cannot start a process has worse troubles than this store.
        Err(error) => {
            tracing::warn!(%error, "the store cannot be probed");
            Probe::Sound
        }
    }
}

fn start(store: &Path) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["store", "check", "--store"])
        .arg(store)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

fn wait(mut child: Child) -> std::io::Result<Probe> {
    let (said, hear) = sync_channel(1);
    let stderr = child.stderr.take();
    std::thread::spawn(move || {
        let mut text = String::new();
        // A child that says more than this is cut off; what it said first is what counts.
        let _ = stderr.map(|stderr| stderr.take(SAID).read_to_string(&mut text));
        let _ = said.send(text);
    });
    let begun = Instant::now();
    let mut words = None;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(Probe::Sound);
            }
            let text = words.or_else(|| hear.recv_timeout(POLL).ok()).unwrap_or_default();
            let last = text.lines().last().unwrap_or_default();
            return Ok(Probe::Damaged(format!("{status}: {last}")));
        }
        if begun.elapsed() > DEADLINE {
            child.kill()?;
            child.wait()?;
            return Ok(Probe::TimedOut);
        }
        match hear.recv_timeout(POLL) {
            Ok(text) => words = Some(text),
            Err(RecvTimeoutError::Timeout) => {}
            // The reader is done, the child will be in a moment.
            Err(RecvTimeoutError::Disconnected) => std::thread::park_timeout(POLL),
        }
    }
}
