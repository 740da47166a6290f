use std::fs::File;
use std::io::{BufWriter, Write as _};

use anyhow::Context;
use reprise_replay::curate::judge::{Agreement, Judge, Reference, References};
use reprise_replay::data::pairs;
use reprise_replay::data::requests::Request;
use reprise_replay::harness::answers::{Wanted, answers};
use reprise_replay::harness::outcome::{self, RUNS};
use reprise_replay::harness::table::Table;

use crate::cli::{Answers, AnswersJudge};

pub async fn run(args: &Answers) -> anyhow::Result<u8> {
    let files: Vec<Vec<Request>> =
        args.requests.iter().map(|path| Request::read(path)).collect::<Result<_, _>>()?;
    let requests: Vec<Request> = files.into_iter().flatten().collect();
    let outcomes = outcome::read(&args.table)?;
    let runs = Table::open(&args.table.join(RUNS))?;
    let judge: Box<dyn Judge> = match args.judge {
        AnswersJudge::Reference => Box::new(Reference(References::from_requests(requests.clone()))),
        AnswersJudge::Agreement => Box::new(Agreement::default()),
    };
    let wanted = Wanted {
        tier: &args.tier,
        split: &args.split,
        arm: &args.arm,
        better: &args.better,
        judge: judge.as_ref(),
    };
    let (found, counts) = answers(&requests, &outcomes, &runs, &wanted).await?;
    let file = File::create(&args.out).with_context(|| format!("create {}", args.out.display()))?;
    let mut writer = BufWriter::new(file);
    for pair in &found {
        pairs::write(&mut writer, pair)?;
    }
    writer.flush()?;
    println!("{}", serde_json::to_string(&counts)?);
    Ok(0)
}
