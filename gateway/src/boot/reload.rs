//! The configuration's file, followed while the gateway runs.
//!
//! Its folder is watched, not the file: editors and Kubernetes put a new file in the place of the old one. So are the folders of
//! the files that it names, which are a certificate and its key. What does not hold changes nothing and is told of; requests
//! under way keep what they began with, connections their certificate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{SignalKind, signal as on_signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

use crate::config::{Config, Overrides};
use crate::state::SharedState;

/// After a change in the folder: what writes a file in parts is given time to finish.
const SETTLE: Duration = Duration::from_millis(200);

/// The file, and what the command line says over it.
#[derive(Debug, Clone)]
pub struct Source {
    pub file: PathBuf,
    pub overrides: Overrides,
}

/// Until shutdown begins.
pub async fn follow(state: SharedState, source: Source) {
    let (changed, mut changes) = channel(1);
    let mut files = files(&state, &source);
    let mut watcher = watch(&files, &changed);
    let Ok(mut hangup) = on_signal(SignalKind::hangup()) else { return };
    let mut last = read(files.clone()).await;
    loop {
        let asked = tokio::select! {
            () = state.shutdown.cancelled() => return,
            _ = hangup.recv() => true,
            () = settled(&mut changes) => false,
        };
        let mut now = read(files.clone()).await;
        // Secrets in other files may have changed: who asks gets it read again whatever it says.
        if asked || now != last {
            reload(&state, &source).await;
            let named = self::files(&state, &source);
            if named != files {
                files = named;
                drop(std::mem::replace(&mut watcher, watch(&files, &changed)));
                now = read(files.clone()).await;
            }
        }
        last = now;
    }
}

/// The file, and those that it names.
fn files(state: &SharedState, source: &Source) -> Vec<PathBuf> {
    let config = state.config();
    std::iter::once(source.file.as_path()).chain(config.named_files()).map(Path::to_owned).collect()
}

async fn settled(changes: &mut Receiver<()>) {
    if changes.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(SETTLE).await;
}

/// It watches as long as it lives.
fn watch(files: &[PathBuf], changed: &Sender<()>) -> Option<RecommendedWatcher> {
    let changed = changed.clone();
    let watching = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // One that waits already will see this change as well.
            let _ = changed.try_send(());
        }
    });
    let folder = |file: &PathBuf| match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let folders: BTreeSet<PathBuf> = files.iter().map(folder).collect();
    let watching = watching.and_then(|mut watcher| {
        folders.iter().try_for_each(|folder| watcher.watch(folder, RecursiveMode::NonRecursive))?;
        Ok(watcher)
    });
    match watching {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "the configuration is not followed; SIGHUP still reads it again");
            None
        }
    }
}

async fn read(files: Vec<PathBuf>) -> Vec<Option<Vec<u8>>> {
    let read = move || files.iter().map(|file| std::fs::read(file).ok()).collect();
    spawn_blocking(read).await.unwrap_or_default()
}

async fn reload(state: &SharedState, source: &Source) {
    let (old, source) = (state.config(), source.clone());
    let loaded = spawn_blocking(move || {
        let new = Config::load(Some(&source.file), source.overrides)?;
        old.follow(&new)
    });
    let reloaded = match loaded.await {
        Ok(Ok(reloaded)) => reloaded,
        Ok(Err(error)) => {
            state.metrics.config_reloads.with_label_values(&["failed"]).inc();
            return tracing::error!(%error, "the configuration does not hold; the old one stays in force");
        }
        Err(_) => return tracing::error!("reading the configuration ended in a panic"),
    };
    if let Err(error) = state.keys.configure(&reloaded.config.auth) {
        return tracing::error!(%error, "the keys do not hold; the old configuration stays in force");
    }
    state.configuration.store(Arc::new(reloaded.config));
    state.metrics.config_reloads.with_label_values(&["ok"]).inc();
    if reloaded.waiting.is_empty() {
        tracing::info!("the configuration was read again");
    } else {
        let keys = reloaded.waiting.join(", ");
        tracing::warn!(keys, "the configuration was read again; these keys wait for a restart");
    }
}
