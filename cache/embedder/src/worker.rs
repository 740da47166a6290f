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
            let compute = Compute::new(Pool::new(compute_threads)?);
            thread::Builder::new()
                .name(format!("embed-{number}"))
                .spawn(move || while step(&model, &compute, &jobs, max_batch) {})
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
fn step(model: &Bert, compute: &Compute, jobs: &Mutex<Receiver<Job>>, max_batch: usize) -> bool {
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

fn answer(model: &Bert, compute: &Compute, batch: Vec<Job>) {
    let counts: Vec<usize> = batch.iter().map(|job| job.texts.len()).collect();
    let (texts, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|job| (job.texts, job.reply)).unzip();
    let texts: Vec<String> = texts.into_iter().flatten().collect();
    let answers = catch_unwind(AssertUnwindSafe(|| answers(model, compute, &texts, &counts)));
    let answers = answers.unwrap_or_else(|_| {
        error!(texts = counts.iter().sum::<usize>(), "the embedder panicked");
        counts.iter().map(|_| Err(EmbedError::Failed("it panicked".into()))).collect()
    });
    for (reply, answer) in replies.into_iter().zip(answers) {
        drop(reply.send(answer));
    }
}

/// One answer for each count of texts. A text without tokens spoils its own answer only.
fn answers(model: &Bert, compute: &Compute, texts: &[String], counts: &[usize]) -> Vec<Answer> {
    let mut tokens = model.tokens(texts, compute).into_iter();
    let mut known = Vec::with_capacity(texts.len());
    let mut spoilt = Vec::with_capacity(counts.len());
    for count in counts {
        let own: Vec<_> = tokens.by_ref().take(*count).collect();
        match own.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(own) => {
                known.extend(own);
                spoilt.push(None);
            }
            Err(reason) => spoilt.push(Some(reason)),
        }
    }
    let mut vectors = model.embed(&known, compute).map(Vec::into_iter);
    let answers = counts.iter().zip(spoilt).map(|(count, spoilt)| match (spoilt, &mut vectors) {
        (None, Ok(vectors)) => Ok(vectors.by_ref().take(*count).collect()),
        (Some(reason), _) => Err(EmbedError::Failed(reason)),
        (None, Err(reason)) => Err(EmbedError::Failed(reason.clone())),
    });
    answers.collect()
}
