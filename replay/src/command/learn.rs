use anyhow::Context;
use reprise_replay::gateway::{Gateway, Keys};
use reprise_replay::harness::outcome::{self, VECTORS};
use reprise_replay::harness::table::Table;
use reprise_replay::learn::measure::Quality;
use reprise_replay::learn::train::Training;
use reprise_replay::learn::{self, answers, live};
use reprise_replay::stats::Estimate;

use crate::cli::Learn;
use crate::exit;

pub async fn run(args: Learn) -> anyhow::Result<u8> {
    std::fs::create_dir_all(&args.table).with_context(|| format!("create {}", args.table.display()))?;
    let mut vectors = Table::open(&args.table.join(VECTORS))?;
    let keys = Keys { admin: args.admin_key, api: None };
    let ca_file = args.ca_file.as_deref();
    if let Some(url) = &args.from {
        let rated = Gateway::trusting(url, keys.clone(), ca_file)?.outcomes().await?;
        let rows = live::outcomes(&rated, &mut vectors)?;
        println!(
            "{} rated answers of {url}; {} outcomes in all",
            rated.len(),
            outcome::merge(&args.table, rows)?
        );
    }
    let outcomes = outcome::read(&args.table)?;
    let training = Training { seed: args.seed, ..Training::default() };
    let (model, report) = learn::learn(&outcomes, &vectors, &training)?;
    let write = |path: &std::path::Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    };
    write(&args.out, serde_json::to_string(&model)?)?;
    write(&args.out.with_extension("report.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    println!(
        "{} parameters, {} epochs; {} rows trained, {} calibrated, {} tested ({} requests); tau {:.2}",
        report.parameters,
        report.epochs,
        report.training_rows,
        report.calibration_rows,
        report.test_rows,
        report.test_requests,
        report.tau
    );
    show("similarity prior", &report.prior);
    show("prior, calibrated", &report.prior_calibrated);
    show("trained model", &report.model);
    for (set, prior, model) in &report.by_set {
        show(&format!("{set}: prior"), prior);
        show(&format!("{set}: model"), model);
    }
    if let Some(url) = &args.install {
        if !report.is_better() {
            println!("not installed: on unseen requests it foretells no better than calibrated likeness");
            return Ok(exit::REFUSED);
        }
        match answers::difference(&outcomes) {
            None => {
                let model = args.out.display();
                println!(
                    "not installed: no answers with examples that it chose; `collect --model {model} --arm prior-5 --arm model-5` makes them"
                );
                return Ok(exit::REFUSED);
            }
            Some(difference) if difference.low <= 0.0 => {
                let Estimate { n, mean, low, high } = difference;
                println!(
                    "not installed: {n} answers with examples that a trained model chose scored {mean:+.3} [{low:.3}, {high:.3}] against likeness"
                );
                return Ok(exit::REFUSED);
            }
            Some(_) => {}
        }
        let gateway = Gateway::trusting(url, keys, ca_file)?;
        let switched = gateway.install_utility(&model).await?;
        println!("installed as version {}; before it was {}", switched.active, switched.previous);
    }
    Ok(0)
}

fn show(name: &str, quality: &Quality) {
    let share = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    println!(
        "{name:32} base {:.3}  Brier {:.4}  ECE {:.4}  AUC {}  order within a request {} ({} pairs)",
        quality.base_rate,
        quality.brier,
        quality.ece,
        share(quality.auc),
        share(quality.order_within_request),
        quality.pairs
    );
}
