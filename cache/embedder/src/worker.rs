//! The threads that embed. What waits is taken together: a batch shares each read of the weights.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use reprise_cache::{EmbedError, UnitVector};
use tokio::sync::oneshot;
use tracing::error;

use crate::{EmbedderConfig, model::Bert};

type Reply = oneshot::Sender<Result<UnitVector, EmbedError>>;

struct Job {
    text: String,
    reply: Reply,
}

/// The queue's entrance. The threads end when it is dropped.
#[derive(Debug)]
pub struct Workers {
    queue: SyncSender<Job>,
}

impl Workers {
    pub fn start(model: &Arc<Bert>, config: &EmbedderConfig) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(config.queue_capacity.max(1));
        // Held by the one thread that fills its batch.
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..config.threads.max(1) {
            let (model, jobs, max_batch) = (Arc::clone(model), Arc::clone(&jobs), config.max_batch.max(1));
            thread::Builder::new()
                .name(format!("embed-{number}"))
                .spawn(move || while step(&model, &jobs, max_batch) {})?;
        }
        Ok(Self { queue })
    }

    pub fn submit(
        &self,
        text: &str,
    ) -> Result<oneshot::Receiver<Result<UnitVector, EmbedError>>, EmbedError> {
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(Job { text: text.to_owned(), reply }) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(EmbedError::Overloaded),
            Err(TrySendError::Disconnected(_)) => Err(EmbedError::Stopped),
        }
    }
}

/// One batch; false once nobody can ask any more.
fn step(model: &Bert, jobs: &Mutex<Receiver<Job>>, max_batch: usize) -> bool {
    let mut batch = Vec::new();
    {
        let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(first) = jobs.recv() else { return false };
        batch.push(first);
        batch.extend(jobs.try_iter().take(max_batch - 1));
    }
    // Whoever gave up meanwhile is not worked for.
    batch.retain(|job| !job.reply.is_closed());
    answer(model, batch);
    true
}

fn answer(model: &Bert, batch: Vec<Job>) {
    let (mut texts, mut replies) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for Job { text, reply } in batch {
        match model.tokens(&text) {
            Ok(tokens) => {
                texts.push(tokens);
                replies.push(reply);
            }
            Err(reason) => drop(reply.send(Err(EmbedError::Failed(reason)))),
        }
    }
    if texts.is_empty() {
        return;
    }
    let vectors = catch_unwind(AssertUnwindSafe(|| model.embed(&texts))).unwrap_or_else(|_| {
        error!(texts = texts.len(), "the embedder panicked");
        Err("it panicked".into())
    });
    match vectors {
        Ok(vectors) => {
            for (reply, vector) in replies.into_iter().zip(vectors) {
                drop(reply.send(Ok(vector)));
            }
        }
        Err(reason) => {
            for reply in replies {
                drop(reply.send(Err(EmbedError::Failed(reason.clone()))));
            }
        }
    }
}
