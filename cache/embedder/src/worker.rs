//! The threads that embed. What waits is taken together: a batch shares each read of the weights.

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use reprise_cache::{EmbedError, UnitVector};
use reprise_kernels::pool::Pool;
use tokio::sync::oneshot;
use tracing::error;

use crate::{EmbedderConfig, LoadError, bert::Compute, model::Bert};

type Answer = Result<Vec<UnitVector>, EmbedError>;

struct Job {
    texts: Vec<String>,
    reply: oneshot::Sender<Answer>,
}

/// The queue's entrance. The threads end when it is dropped.
#[derive(Debug)]
pub struct Workers {
    queue: SyncSender<Job>,
}

impl Workers {
    pub fn start(model: &Arc<Bert>, config: &EmbedderConfig) -> Result<Self, LoadError> {
        let (queue, jobs) = sync_channel(config.queue_capacity.max(1));
        // Held by the one thread that fills its batch.
        let jobs = Arc::new(Mutex::new(jobs));
        let compute_threads = NonZeroUsize::new(config.compute_threads).unwrap_or(NonZeroUsize::MIN);
        for number in 0..config.threads.max(1) {
            let (model, jobs, max_batch) = (Arc::clone(model), Arc::clone(&jobs), config.max_batch.max(1));
            let mut compute = Compute::new(Pool::new(compute_threads)?);
            thread::Builder::new()
                .name(format!("embed-{number}"))
                .spawn(move || while step(&model, &mut compute, &jobs, max_batch) {})
                .map_err(LoadError::Threads)?;
        }
        Ok(Self { queue })
    }

    /// The texts stay together: they are one place in the queue and one batch.
    pub fn submit(&self, texts: Vec<String>) -> Result<oneshot::Receiver<Answer>, EmbedError> {
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(Job { texts, reply }) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(EmbedError::Overloaded),
            Err(TrySendError::Disconnected(_)) => Err(EmbedError::Stopped),
        }
    }
}

/// One batch; false once nobody can ask any more.
fn step(model: &Bert, compute: &mut Compute, jobs: &Mutex<Receiver<Job>>, max_batch: usize) -> bool {
    let mut batch = Vec::new();
    {
        let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(first) = jobs.recv() else { return false };
        let mut texts = first.texts.len();
        batch.push(first);
        while texts < max_batch
            && let Ok(job) = jobs.try_recv()
        {
            texts += job.texts.len();
            batch.push(job);
        }
    }
    // Whoever gave up meanwhile is not worked for.
    batch.retain(|job| !job.reply.is_closed());
    answer(model, compute, batch);
    true
}

fn answer(model: &Bert, compute: &mut Compute, batch: Vec<Job>) {
    let (mut texts, mut replies) = (Vec::new(), Vec::with_capacity(batch.len()));
    for Job { texts: own, reply } in batch {
        let tokens: Result<Vec<_>, _> = own.iter().map(|text| model.tokens(text)).collect();
        match tokens {
            Ok(tokens) => {
                replies.push((reply, tokens.len()));
                texts.extend(tokens);
            }
            Err(reason) => drop(reply.send(Err(EmbedError::Failed(reason)))),
        }
    }
    if texts.is_empty() {
        replies.into_iter().for_each(|(reply, _)| drop(reply.send(Ok(Vec::new()))));
        return;
    }
    let vectors = catch_unwind(AssertUnwindSafe(|| model.embed(&texts, compute))).unwrap_or_else(|_| {
        error!(texts = texts.len(), "the embedder panicked");
        Err("it panicked".into())
    });
    match vectors {
        Ok(vectors) => {
            let mut vectors = vectors.into_iter();
            for (reply, count) in replies {
                drop(reply.send(Ok(vectors.by_ref().take(count).collect())));
            }
        }
        Err(reason) => {
            for (reply, _) in replies {
                drop(reply.send(Err(EmbedError::Failed(reason.clone()))));
            }
        }
    }
}
