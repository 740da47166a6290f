use super::{
    Setting,
    run::{Outcome, Step, Steps},
};

/// What was seen, and what of it is wrong.
pub(super) fn judge(
    setting: &Setting<'_>,
    outcome: &Outcome,
    expected: &[Steps],
) -> (String, Option<String>) {
    let Outcome { steps, ends, held, lost } = outcome;
    let (mut same, mut wrong, mut failed) = (0, Vec::new(), 0);
    for (at, (steps, expected)) in steps.iter().zip(expected).enumerate() {
        let alike = |(found, wanted): (&Step, &Step)| {
            found.1 == wanted.1 && (found.0.is_none() || found.0 == wanted.0)
        };
        let right = steps.iter().zip(expected).take_while(|pair| alike(*pair)).count();
        same += right;
        if right < steps.len() {
            wrong.push(format!("request {at} differs from its token {right} on"));
        }
        match &ends[at] {
            Some(Ok(true)) if steps.len() != expected.len() => {
                wrong.push(format!("request {at} ended after {} of {} tokens", steps.len(), expected.len()));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                failed += 1;
                if setting.fails.is_none() {
                    wrong.push(format!("request {at}: {error}"));
                }
            }
            None => wrong.push(format!("request {at} has no end")),
        }
    }
    if *held > 0 {
        wrong.push(format!("{held} KV blocks are held after the end"));
    }
    if setting.fails.is_some() && (*lost != 1 || failed == 0) {
        wrong.push(format!("{lost} devices were lost and {failed} requests failed of it"));
    }
    if setting.fails.is_none() && *lost > 0 {
        wrong.push(format!("{lost} devices were lost"));
    }
    let what = if setting.greedy { "tokens" } else { "logits" };
    let cancelled = ends.iter().filter(|end| matches!(end, Some(Ok(false)))).count();
    let seen =
        format!("{} requests, {cancelled} cancelled, {failed} failed, {same} {what} the same", ends.len());
    (seen, (!wrong.is_empty()).then(|| wrong.join("; ")))
}

#[cfg(test)]
mod tests {
    use reprise_scheduler::{ScheduleKind, placement::Roles};

    use super::{
        super::{super::variant::Variant, run::Job},
        *,
    };

    #[test]
    fn what_is_wrong_is_noticed() {
        let jobs = [Job { prompt: vec![1], max_new: 2, cancel_after: None }];
        let variant = Variant { schedule: ScheduleKind::Lockstep, replicas: None };
        let setting = Setting { roles: Roles::Shared, variant, greedy: false, fails: None, jobs: &jobs };
        let expected = [vec![(Some(1), 1), (Some(2), 2)]];
        let outcome =
            |steps: Steps, held| Outcome { steps: vec![steps], ends: vec![Some(Ok(true))], held, lost: 0 };
        let wrong = |outcome: &Outcome| judge(&setting, outcome, &expected).1.is_some();
        assert!(!wrong(&outcome(expected[0].clone(), 0)));
        assert!(wrong(&outcome(expected[0].clone(), 1)), "KV is held");
        assert!(wrong(&outcome(vec![(Some(1), 1), (Some(3), 2)], 0)), "other bits");
        assert!(wrong(&outcome(vec![(Some(1), 1)], 0)), "too short");
    }
}
