use reprise_cache::Example;
use reprise_replay::evict::{Askers, Stream, simulate};
use reprise_replay::harness::outcome::{self, VECTORS};
use reprise_replay::harness::table::{Table, Vector};

use crate::cli::Evict;

pub fn run(args: &Evict) -> anyhow::Result<u8> {
    let outcomes = outcome::read(&args.table)?;
    let vectors: Table<Vector> = Table::open(&args.table.join(VECTORS))?;
    let dimensions = vectors.iter().next().map_or(0, |vector| vector.values.len());
    let askers =
        Askers { tier: &args.tier, pool: &args.pool, before: &args.before, after: args.after.as_deref() };
    let mut csv = csv::Writer::from_writer(std::io::stdout());
    for seed in &args.seeds {
        let stream = Stream { length: args.length, per_hour: args.per_hour, skew: args.skew, seed: *seed };
        let beside_texts = Example::bytes_beside_texts(dimensions);
        for result in simulate(&outcomes, &askers, &stream, beside_texts, &args.budgets)? {
            csv.serialize(result)?;
        }
    }
    csv.flush()?;
    Ok(0)
}
