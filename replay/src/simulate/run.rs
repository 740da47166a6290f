//! One simulated run: requests arrive, the router decides on what the machine looks like at that moment, the machine works,
//! and what came of it is told to the router.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reprise_router::{Action, ArmState, Decision, Router, Took};
use serde::{Deserialize, Serialize};

use super::machine::{Machine, TierSpeed, Work};
use super::requests::{Answers, KnownTier, Logged};
use super::seeded;
use crate::harness::outcome::Outcome;
use crate::trace::{Row, RowWriter, RunFile};

/// File name in a run's folder.
pub const MOMENTS: &str = "moments.csv";

/// What is simulated.
#[derive(Debug)]
pub struct Simulation<'a> {
    pub label: &'a str,
    pub requests: &'a [Logged],
    pub tiers: &'a [KnownTier],
    pub speeds: &'a [TierSpeed],
    /// As many as requests, rising. `None`: one request at a time.
    pub arrivals: Option<&'a [Duration]>,
    /// Tells the router each answer's score, at the answer's end.
    pub feedback: bool,
    pub context_length: u32,
    /// Seconds that the router has lived through before: its clock must not step back.
    pub from_s: usize,
    pub seed: u64,
}

/// One request of a run in the order of arrival, for a plot over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    pub at_s: f64,
    /// L and the bias, as the decision saw them.
    pub load: f64,
    pub bias: f64,
    /// Where it was sent; none if no tier had room.
    pub tier: Option<String>,
    pub examples: bool,
    pub score: Option<f64>,
    pub e2e_s: Option<f64>,
}

struct Flight {
    request: usize,
    arrived_s: f64,
    decision: Decision,
}

/// Rows in the order in which the requests arrived. A request that finds every queue full is a row with an error.
pub fn simulate(simulation: &Simulation<'_>, router: &Router) -> (Vec<Row>, Vec<Moment>) {
    let mut world = World {
        simulation,
        router,
        machine: Machine::new(simulation.speeds),
        // Only differences count; the router wants an instant.
        epoch: Instant::now() + Duration::from_secs(simulation.from_s as u64),
        rng: seeded(simulation.seed),
        flights: BTreeMap::new(),
        rows: BTreeMap::new(),
        moments: BTreeMap::new(),
    };
    for number in 0..simulation.requests.len() {
        match simulation.arrivals.and_then(|arrivals| arrivals.get(number)) {
            Some(arrival) => world.pass(arrival.as_secs_f64()),
            None => world.pass(f64::INFINITY),
        }
        world.arrive(number);
    }
    world.pass(f64::INFINITY);
    (world.rows.into_values().collect(), world.moments.into_values().collect())
}

struct World<'a> {
    simulation: &'a Simulation<'a>,
    router: &'a Router,
    machine: Machine,
    epoch: Instant,
    rng: rand_chacha::ChaCha8Rng,
    flights: BTreeMap<usize, Flight>,
    rows: BTreeMap<usize, Row>,
    moments: BTreeMap<usize, Moment>,
}

impl World<'_> {
    /// Until this time, or with infinity until all work is done.
    fn pass(&mut self, until_s: f64) {
        while !(until_s.is_infinite() && self.machine.is_idle()) {
            let Some(done) = self.machine.advance(until_s) else { return };
            let Some(flight) = self.flights.remove(&done.id) else { continue };
            let outcome = self.outcome(&flight).clone();
            self.router.observe_speed(
                &outcome.tier,
                &Took {
                    prompt_tokens: outcome.prompt_tokens,
                    completion_tokens: outcome.completion_tokens,
                    prefill: seconds(done.first_token_s - done.started_s),
                    decode: seconds(done.end_s - done.first_token_s),
                },
            );
            if self.simulation.feedback {
                self.router.learn(&flight.decision.experience(outcome.score));
            }
            let mut row = self.row(flight.request, Some((&flight.decision, &outcome)));
            row.ttft_s = Some(done.first_token_s - flight.arrived_s);
            row.e2e_s = Some(done.end_s - flight.arrived_s);
            if let Some(moment) = self.moments.get_mut(&flight.request) {
                moment.e2e_s = row.e2e_s;
            }
            let gaps = outcome.completion_tokens.saturating_sub(1);
            row.itl_s = (gaps > 0).then(|| (done.end_s - done.first_token_s) / f64::from(gaps));
            self.rows.insert(flight.request, row);
        }
    }

    fn arrive(&mut self, number: usize) {
        let request = &self.simulation.requests[number];
        let context = request.context();
        let now = self.epoch + Duration::from_secs_f64(self.machine.now_s());
        let decision = match self.router.decide(&context, &self.arms(), now, &mut self.rng) {
            Ok(decision) => decision,
            Err(error) => {
                let report = self.router.load_report();
                let (at_s, load, bias) = (self.machine.now_s(), report.load, report.bias);
                let moment =
                    Moment { at_s, load, bias, tier: None, examples: false, score: None, e2e_s: None };
                self.moments.insert(number, moment);
                let mut row = self.row(number, None);
                row.error = Some(error.to_string());
                self.rows.insert(number, row);
                return;
            }
        };
        let flight = Flight { request: number, arrived_s: self.machine.now_s(), decision };
        if flight.decision.action == Action::Reuse {
            self.reuse(&flight);
            return;
        }
        let outcome = self.outcome(&flight);
        let work = Work::of(outcome);
        let moment = Moment {
            at_s: flight.arrived_s,
            load: flight.decision.load,
            bias: flight.decision.load_bias,
            tier: Some(flight.decision.key.tier.to_string()),
            examples: flight.decision.arm.examples,
            score: Some(outcome.score),
            e2e_s: None,
        };
        let tier = flight.decision.arm.tier;
        if self.machine.submit(tier, number, work) {
            self.moments.insert(number, moment);
            self.flights.insert(number, flight);
        } else {
            self.moments.insert(number, Moment { tier: None, score: None, ..moment });
            let mut row = self.row(number, None);
            row.error = Some("the tier's queue is full".to_owned());
            self.rows.insert(number, row);
        }
    }

    /// The nearest answer as it is: no tier computes anything.
    fn reuse(&mut self, flight: &Flight) {
        let outcome = self.outcome(flight).clone();
        let mut row = self.row(flight.request, Some((&flight.decision, &outcome)));
        row.score = outcome.reused;
        (row.ttft_s, row.e2e_s) = (Some(0.0), Some(0.0));
        (row.example_tokens, row.prompt_tokens, row.completion_tokens) = (Some(0), Some(0), Some(0));
        row.tier = None;
        self.rows.insert(flight.request, row);
    }

    fn arms(&self) -> Vec<ArmState> {
        let simulation = self.simulation;
        let states = |(index, tier): (usize, &KnownTier)| {
            tier.arms(index, simulation.context_length, self.machine.pressure(index))
        };
        simulation.tiers.iter().enumerate().flat_map(states).collect()
    }

    /// What was logged for the arm that was decided on.
    fn outcome(&self, flight: &Flight) -> &Outcome {
        let Answers { plain, examples } =
            &self.simulation.requests[flight.request].answers[flight.decision.arm.tier];
        if flight.decision.arm.examples { examples } else { plain }
    }

    fn row(&self, number: usize, answered: Option<(&Decision, &Outcome)>) -> Row {
        let request = &self.simulation.requests[number];
        let known = &request.answers[0].plain;
        let outcome = answered.map(|(_, outcome)| outcome);
        let plain = answered
            .map(|(decision, _)| request.answers[decision.arm.tier].plain.prompt_tokens)
            .unwrap_or_default();
        let reused = answered.is_some_and(|(decision, _)| decision.action == Action::Reuse);
        let cache = outcome.map(|outcome| match (reused, outcome.examples.is_empty()) {
            (true, _) => "HIT".to_owned(),
            (false, true) => "MISS".to_owned(),
            (false, false) => "EXAMPLES".to_owned(),
        });
        Row {
            run: self.simulation.label.to_owned(),
            policy: self.router.policy().to_string(),
            pass: 1,
            id: request.id.clone(),
            request_id: None,
            set: request.set.clone(),
            source: known.source.clone(),
            task: known.task.clone(),
            metric: known.metric,
            score: outcome.map(|outcome| outcome.score),
            ttft_s: None,
            e2e_s: None,
            itl_s: None,
            lateness_s: 0.0,
            tier: outcome.map(|outcome| outcome.tier.clone()),
            cache,
            examples: outcome.map(|outcome| u32::try_from(outcome.examples.len()).unwrap_or(u32::MAX)),
            similarity: Some(f64::from(known.nearest)),
            overhead_ms: None,
            example_tokens: outcome.map(|outcome| outcome.prompt_tokens.saturating_sub(plain)),
            prompt_tokens: outcome.map(|outcome| outcome.prompt_tokens),
            completion_tokens: outcome.map(|outcome| outcome.completion_tokens),
            finish_reason: outcome.map(|_| "stop".to_owned()),
            status: outcome.map(|_| 200),
            error: None,
        }
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Writes a run's folder as `trace` does, so that `report` reads it, and the moments beside it.
///
/// # Errors
/// The folder holds a run already, or cannot be written.
pub fn write(out: &Path, mut file: RunFile, rows: &[Row], moments: &[Moment]) -> anyhow::Result<()> {
    let mut writer = RowWriter::create(out)?;
    for row in rows {
        writer.simulated(row)?;
    }
    file.finish(true);
    file.write(out)?;
    let path = out.join(MOMENTS);
    let mut csv = csv::Writer::from_path(&path).with_context(|| format!("create {}", path.display()))?;
    for moment in moments {
        csv.serialize(moment)?;
    }
    Ok(csv.flush()?)
}
