use reprise_replay::evict::{Stream, simulate};
use reprise_replay::harness::outcome;

use crate::cli::Evict;

pub fn run(args: &Evict) -> anyhow::Result<u8> {
    let outcomes = outcome::read(&args.table)?;
    let mut csv = csv::Writer::from_writer(std::io::stdout());
    for seed in &args.seeds {
        let stream = Stream { length: args.length, per_hour: args.per_hour, skew: args.skew, seed: *seed };
        for result in simulate(&outcomes, &stream, &args.budgets)? {
            csv.serialize(result)?;
        }
    }
    csv.flush()?;
    Ok(0)
}
