//! Streams that stay open: how long each word takes from the upstream to the client.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::http::{Connection, Target, check};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// Open at once.
    #[arg(long)]
    streams: usize,
    /// They begin over this time, each at its own.
    #[arg(long, default_value_t = 2000)]
    begin_over_ms: u64,
    /// One line for each word.
    #[arg(long)]
    csv: PathBuf,
}

/// A word that came.
struct Word {
    at: Instant,
    delay_us: u64,
}

const STACK: usize = 256 << 10;

pub fn run(options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    let outcomes = thread::scope(|scope| {
        let readers: Vec<_> = (0..options.streams)
            .map(|index| {
                let offset = options.begin_over_ms * index as u64 / options.streams as u64;
                let read = move || read(&options.target, index, start + Duration::from_millis(offset));
                thread::Builder::new().stack_size(STACK).spawn_scoped(scope, read)
            })
            .collect::<Result<_, _>>()?;
        let joined = readers.into_iter().map(|reader| reader.join());
        joined.collect::<Result<Vec<_>, _>>().map_err(|_| anyhow::anyhow!("a reader died"))
    })?;
    let mut out =
        BufWriter::new(File::create(&options.csv).with_context(|| format!("{}", options.csv.display()))?);
    writeln!(out, "stream,at_us,delay_us")?;
    let mut failed = 0;
    for (index, (words, outcome)) in outcomes.iter().enumerate() {
        for Word { at, delay_us } in words {
            writeln!(out, "{index},{},{delay_us}", at.duration_since(start).as_micros())?;
        }
        if let Err(error) = outcome {
            failed += 1;
            if failed == 1 {
                println!("a stream failed: {error:#}");
            }
        }
    }
    println!("{} streams, {failed} failed", options.streams);
    Ok(out.flush()?)
}

/// What came is told even if the stream broke off.
fn read(target: &Target, index: usize, begin: Instant) -> (Vec<Word>, anyhow::Result<()>) {
    let mut words = Vec::new();
    thread::sleep(begin.saturating_duration_since(Instant::now()));
    let outcome = follow(target, index, &mut words);
    (words, outcome)
}

fn follow(target: &Target, index: usize, words: &mut Vec<Word>) -> anyhow::Result<()> {
    let mut connection = Connection::open(target.address)?;
    connection.send(&target.request(&format!("What is known of stream {index}?"), false, true))?;
    let head = check(connection.head()?)?;
    // A word may be cut where a piece ends.
    let mut rest = Vec::new();
    connection.body(&head, |piece| {
        rest.extend_from_slice(piece);
        while let Some((sent, used)) = first_word(&rest) {
            rest.drain(..used);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
            words.push(Word { at: Instant::now(), delay_us: (now.saturating_sub(sent) / 1000) as u64 });
        }
    })
}

/// When the first whole word in `bytes` was sent, in nanoseconds since 1970, and where what follows it begins.
fn first_word(bytes: &[u8]) -> Option<(u128, usize)> {
    let begin = bytes.iter().position(|byte| *byte == b'@')? + 1;
    let length = bytes[begin..].iter().position(|byte| !byte.is_ascii_digit())?;
    let digits = std::str::from_utf8(&bytes[begin..begin + length]).ok()?;
    Some((digits.parse().ok()?, begin + length))
}
