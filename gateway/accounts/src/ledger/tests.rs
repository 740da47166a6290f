use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::books::Books;
use super::shared::{Inner, Stands};
use super::*;
use crate::limits::{Account, Amount, Limits, Period, Scope, check};
use crate::lines::line;
use crate::moment::Moment;
use crate::money::Money;

fn payer() -> Payer {
    Payer { key: Some("key_1".into()), tenant: "t".into() }
}

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, money: Money::of_nanos(2 * tokens) }
}

fn used(tokens: u64) -> Used {
    Used {
        prompt_tokens: tokens / 2,
        completion_tokens: tokens - tokens / 2,
        money_nanos: Money::of_nanos(2 * tokens),
        tier: Some("small".into()),
        outcome: Outcome::Answered,
    }
}

fn per_minute(limit: u64) -> Limits {
    Limits { tokens_per_minute: Some(limit), ..Limits::default() }
}

fn only(limits: &Limits) -> PayerLimits<'_> {
    PayerLimits { key: Some(limits), tenant: None }
}

fn spent(desk: &Desk) -> u64 {
    let usage = desk.usage();
    let (_, sums, _) = usage.iter().find(|(account, ..)| *account == Account::Tenant("t".into())).unwrap();
    sums[2].tokens()
}

fn options(folder: &tempfile::TempDir) -> LedgerOptions {
    LedgerOptions::new(folder.path().join("usage"))
}

#[tokio::test]
async fn what_was_used_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (desk, _) = Desk::open(options(&folder)).unwrap();
    let limits = Limits { budget_tokens: Some(100), budget_period: Period::Total, ..Limits::default() };
    let mut first = desk.reserve(payer(), &only(&limits), tokens(80)).unwrap();
    first.recorded().await.unwrap();
    assert!(desk.reserve(payer(), &only(&limits), tokens(30)).is_err(), "it is reserved");
    first.settle(used(40));
    desk.close();
    let (desk, opened) = Desk::open(options(&folder)).unwrap();
    assert_eq!((opened, spent(&desk)), (Opened::default(), 40));
    let refused = desk.reserve(payer(), &only(&limits), tokens(70)).unwrap_err();
    assert_eq!((refused.scope, refused.used, refused.retry_after), (Scope::Key, 40, None));
    assert!(desk.reserve(payer(), &only(&limits), tokens(60)).is_ok());
}

/// A crash leaves no settlement: the reservation stands for it.
#[tokio::test]
async fn what_a_crash_ended_counts_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let (desk, _) = Desk::open(options(&folder)).unwrap();
    let reserved = desk.reserve(payer(), &only(&Limits::default()), tokens(80)).unwrap();
    reserved.recorded().await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("usage")).unwrap();
    for file in fs::read_dir(folder.path().join("usage")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join("usage").join(file.file_name())).unwrap();
    }
    let (after, opened) = Desk::open(options(&copy)).unwrap();
    assert_eq!((opened.lost, spent(&after)), (1, 80));
    drop(reserved);
    assert_eq!(spent(&desk), 80, "dropped without a word: the same");
}

#[tokio::test]
async fn more_than_was_reserved_is_waited_for_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let (desk, _) = Desk::open(options(&folder)).unwrap();
    let mut reservation = desk.reserve(payer(), &only(&Limits::default()), tokens(10)).unwrap();
    reservation.settle(used(25));
    reservation.recorded().await.unwrap();
    let text = fs::read_to_string(folder.path().join("usage/usage-00000001.log")).unwrap();
    assert!(text.contains("\"settle\"") && text.contains("\"completion_tokens\":13"), "{text}");
}

#[test]
fn many_at_once_never_exceed_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (desk, _) = Desk::open(options(&folder)).unwrap();
    let desk = Arc::new(desk);
    let (key, tenant) = (per_minute(1000), Limits { requests_per_minute: Some(150), ..Limits::default() });
    let threads = (0..8u64).map(|thread| {
        let (desk, key, tenant) = (Arc::clone(&desk), key.clone(), tenant.clone());
        std::thread::spawn(move || {
            let mut through = 0;
            for round in 0..50 {
                let wanted = 5 + (thread * 7 + round * 3) % 40;
                let limits = PayerLimits { key: Some(&key), tenant: Some(&tenant) };
                let Ok(mut reservation) = desk.reserve(payer(), &limits, tokens(wanted)) else { continue };
                let really = wanted - wanted % 4;
                through += really;
                reservation.settle(used(really));
            }
            through
        })
    });
    let threads: Vec<_> = threads.collect();
    let through: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(through <= 1000 && through > 500, "{through}");
    assert_eq!(spent(&desk), through);
    let limits = PayerLimits { key: Some(&key), tenant: Some(&tenant) };
    let left = desk.standing(&payer(), &limits);
    assert_eq!(left.tokens.unwrap().remaining, 1000 - through);
    assert!(left.requests.unwrap().remaining < 150);
}

#[tokio::test]
async fn a_full_file_is_followed_by_one_that_begins_with_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let small = LedgerOptions { file_bytes: 2000, files: Some(3), ..options(&folder) };
    let (desk, _) = Desk::open(small.clone()).unwrap();
    let mut open = Vec::new();
    for round in 0..200 {
        let mut reservation = desk.reserve(payer(), &only(&Limits::default()), tokens(10)).unwrap();
        // Groups of any size: the writer comes to its turn now and then.
        if round % 10 == 0 {
            reservation.recorded().await.unwrap();
        }
        if round % 50 == 0 {
            open.push(reservation);
        } else {
            reservation.settle(used(3));
        }
    }
    open.into_iter().for_each(|mut reservation| reservation.settle(used(3)));
    desk.close();
    let files = fs::read_dir(small.folder.clone()).unwrap().count();
    assert!((2..=3).contains(&files), "{files}");
    let (desk, opened) = Desk::open(small).unwrap();
    assert_eq!((opened.lost, spent(&desk)), (0, 600));
}

#[test]
fn a_ledger_without_its_head_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Desk::open(options(&folder)).unwrap());
    let path = folder.path().join("usage/usage-00000001.log");
    let mut text = fs::read(&path).unwrap();
    text[3] ^= 1;
    fs::write(&path, text).unwrap();
    assert!(matches!(Desk::open(options(&folder)), Err(LedgerError::Head { .. })));
}

/// A ledger whose file says that this much may have been used without standing in it.
fn ahead_of_use(folder: &tempfile::TempDir, boot: &str, amount: u64) -> LedgerOptions {
    let mut text = Vec::new();
    line(&mut text, &Record::Snapshot(Box::default())).unwrap();
    let Amount { tokens, money } = tokens(amount);
    let record = Record::Ahead { boot: boot.into(), payer: payer(), tokens, money_nanos: money };
    line(&mut text, &record).unwrap();
    let options = options(folder);
    fs::create_dir(&options.folder).unwrap();
    fs::write(options.folder.join("usage-00000001.log"), &text).unwrap();
    options
}

#[test]
fn what_stood_ahead_counts_once_if_the_machine_ended_and_not_if_the_process_did() {
    let folder = tempfile::tempdir().unwrap();
    let boot = |boot: &str, options: LedgerOptions| LedgerOptions { boot: boot.into(), ..options };
    let (desk, opened) = Desk::open(boot("a", ahead_of_use(&folder, "a", 70))).unwrap();
    assert_eq!((opened, desk.usage().len()), (Opened::default(), 0), "what was written is all there");
    drop(desk);
    let (desk, opened) = Desk::open(boot("b", options(&folder))).unwrap();
    assert_eq!((opened.overtaken, desk.usage().len()), (0, 0), "it was taken back");
    drop(desk);

    let folder = tempfile::tempdir().unwrap();
    let (desk, opened) = Desk::open(boot("b", ahead_of_use(&folder, "a", 70))).unwrap();
    assert_eq!((opened.overtaken, spent(&desk)), (1, 70));
    drop(desk);
    let (desk, opened) = Desk::open(boot("c", options(&folder))).unwrap();
    assert_eq!((opened.overtaken, spent(&desk)), (0, 70), "once");
}

#[tokio::test]
async fn after_a_failed_sync_a_new_file_holds_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (desk, _) = Desk::open(options(&folder)).unwrap();
    let mut first = desk.reserve(payer(), &only(&Limits::default()), tokens(10)).unwrap();
    first.recorded().await.unwrap();
    first.settle(used(6));
    desk.sync_fails();
    let mut second = desk.reserve(payer(), &only(&Limits::default()), tokens(10)).unwrap();
    second.recorded().await.unwrap();
    second.settle(used(7));
    desk.close();
    assert_eq!(fs::read_dir(folder.path().join("usage")).unwrap().count(), 2);
    let (desk, opened) = Desk::open(options(&folder)).unwrap();
    assert_eq!((opened, spent(&desk)), (Opened::default(), 13));
}

/// Who asks often waits for the disk no more, and a clean end leaves nothing ahead.
#[tokio::test]
async fn a_clean_end_takes_back_what_stood_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let (desk, _) = Desk::open(options(&folder)).unwrap();
    for _ in 0..50 {
        let mut reservation = desk.reserve(payer(), &only(&Limits::default()), tokens(10)).unwrap();
        reservation.recorded().await.unwrap();
        reservation.settle(used(3));
    }
    desk.close();
    let text = fs::read_to_string(folder.path().join("usage/usage-00000001.log")).unwrap();
    assert!(text.contains("\"ahead\""), "{text}");
    let later = LedgerOptions { boot: "later".into(), ..options(&folder) };
    let (desk, opened) = Desk::open(later).unwrap();
    assert_eq!((opened, spent(&desk)), (Opened::default(), 150));
}

#[derive(Debug, Clone)]
enum Step {
    Reserve {
        tokens: u64,
    },
    Cover {
        which: usize,
        more: u64,
    },
    Settle {
        which: usize,
        part: u64,
    },
    Pass {
        seconds: u64,
    },
    /// The machine's clock jumps.
    Jump {
        hours: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0u64..60).prop_map(|tokens| Step::Reserve { tokens }),
        1 => (0usize..8, 0u64..40).prop_map(|(which, more)| Step::Cover { which, more }),
        4 => (0usize..8, 0u64..=120).prop_map(|(which, part)| Step::Settle { which, part }),
        2 => (0u64..50).prop_map(|seconds| Step::Pass { seconds }),
        1 => (-40i64..40).prop_map(|hours| Step::Jump { hours }),
    ];
    prop::collection::vec(step, 0..80)
}

/// What becomes of the file, beside requests.
#[derive(Debug, Clone)]
enum Happens {
    Reserve {
        who: usize,
        tokens: u64,
    },
    Settle {
        which: usize,
        part: u64,
    },
    Write {
        look: bool,
    },
    /// Of all that is written.
    Sync,
}

fn happenings() -> impl Strategy<Value = Vec<Happens>> {
    let happens = prop_oneof![
        8 => (0usize..2, 1u64..30).prop_map(|(who, tokens)| Happens::Reserve { who, tokens }),
        6 => (0usize..8, 0u64..=130).prop_map(|(which, part)| Happens::Settle { which, part }),
        6 => prop::bool::weighted(0.1).prop_map(|look| Happens::Write { look }),
        3 => Just(Happens::Sync),
    ];
    prop::collection::vec(happens, 0..200)
}

proptest! {
    /// The end of the machine takes any part of what was not synced. All that was told by then is known all the same.
    #[test]
    fn no_end_of_the_machine_makes_the_ledger_short(happenings in happenings(), kept in 0.0..=1.0f64) {
        let payers = ["x", "y"].map(|tenant| Payer { key: None, tenant: tenant.into() });
        let folder = tempfile::tempdir().unwrap();
        let file = fs::File::create(folder.path().join("unused")).unwrap();
        let mut inner = Inner::new(Books::default(), Arc::new(file), true);
        let mut lines = vec![Record::Snapshot(Box::default())];
        let mut on_disk = 1;
        // Open: id, payer, reserved, what has to be. Settled: payer, used, what has to be.
        let mut open: Vec<(u64, usize, u64, Stands)> = Vec::new();
        let mut settled: Vec<(usize, u64, Stands)> = Vec::new();
        for happens in happenings {
            match happens {
                Happens::Reserve { who, tokens } => {
                    let (id, amount) = (inner.books.next_id(), Amount { tokens, money: Money::ZERO });
                    let record = Record::Reserve { id, at: 5, payer: payers[who].clone(), tokens, money_nanos: Money::ZERO };
                    let number = inner.enter(record, 1);
                    let stands = inner.reserved(number, &payers[who], amount);
                    open.push((id, who, tokens, stands));
                }
                Happens::Settle { which, part } if !open.is_empty() => {
                    let (id, who, reserved, mut stands) = open.remove(which % open.len());
                    let really = reserved * part / 100;
                    let record = Record::Settle { id, at: 5, payer: payers[who].clone(), used: used(really) };
                    let number = inner.enter(record, 1);
                    if really > reserved {
                        stands = inner.uncovered(number);
                    }
                    settled.push((who, really, stands));
                }
                Happens::Settle { .. } => {}
                Happens::Write { look } => {
                    let hour = Duration::from_secs(3600);
                    let mut look = if look { Instant::now() } else { Instant::now() + hour };
                    let batch = writer::batch(&mut inner, false, &"this".into(), &mut look);
                    lines.extend(batch.records);
                    inner.progress.written = batch.last;
                }
                Happens::Sync => {
                    inner.durable(inner.progress.written);
                    on_disk = lines.len();
                }
            }
        }
        let survived = on_disk + (kept * (lines.len() - on_disk) as f64) as usize;
        let mut text = Vec::new();
        lines[..survived].iter().for_each(|record| line(&mut text, record).unwrap());
        let usage = folder.path().join("usage");
        fs::create_dir(&usage).unwrap();
        fs::write(usage.join("usage-00000001.log"), &text).unwrap();
        let (desk, _) = Desk::open(LedgerOptions { boot: "another".into(), ..options(&folder) }).unwrap();
        for (who, payer) in payers.iter().enumerate() {
            let told = settled.iter().filter(|(whose, _, stands)| *whose == who && inner.progress.reaches(*stands));
            let told: u64 = told.map(|(_, used, _)| used).sum();
            let account = Account::Tenant(Arc::clone(&payer.tenant));
            let known = desk.usage().iter().find(|(other, ..)| *other == account).map_or(0, |(_, sums, _)| sums[2].tokens());
            prop_assert!(known >= told, "{known} known, {told} told");
        }
    }

    /// Whatever happens, in no 60 seconds more is let through than the limit allows, nor in all more than the budget, as long
    /// as nobody uses more than was reserved; and from any beginning of the file as much is known to be used as was.
    #[test]
    fn limits_hold_and_no_crash_makes_the_ledger_short(steps in steps(), crash in 0.0..1.0f64) {
        const PER_MINUTE: u64 = 150;
        const BUDGET: u64 = 600;
        let limits = Limits {
            tokens_per_minute: Some(PER_MINUTE),
            requests_per_minute: Some(9),
            budget_tokens: Some(BUDGET),
            budget_period: Period::Total,
            ..Limits::default()
        };
        let (mut books, mut records) = (Books::default(), Vec::new());
        let mut now = Moment { second: 1_000_000, wall_ms: 1_000_000_000 };
        // Open: id, reserved, second. Admitted: id -> (second, tokens that count for it).
        let mut open: Vec<(u64, u64)> = Vec::new();
        let mut admitted: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
        // After each record: used in all by answers that were sent by then.
        let mut sent = vec![0u64];
        let account = Account::Key("key_1".into());
        for step in steps {
            let state = books.state(&account).cloned().unwrap_or_default();
            let mut enter = |books: &mut Books, record: Record, more: u64| {
                books.apply(&record, now.second);
                records.push((record, now.second));
                sent.push(sent.last().unwrap() + more);
            };
            match step {
                Step::Reserve { tokens } => {
                    let amount = Amount { tokens, money: Money::ZERO };
                    if check(Scope::Key, &limits, &state, 1, amount, now).is_ok() {
                        let id = books.next_id();
                        let record = Record::Reserve { id, at: now.wall_ms, payer: payer(), tokens, money_nanos: Money::ZERO };
                        enter(&mut books, record, 0);
                        open.push((id, tokens));
                        admitted.insert(id, vec![(now.second, tokens)]);
                    }
                }
                Step::Cover { which, more } if !open.is_empty() => {
                    let which = which % open.len();
                    let (id, before) = open[which];
                    let amount = Amount { tokens: more, money: Money::ZERO };
                    if check(Scope::Key, &limits, &state, 0, amount, now).is_ok() {
                        let tokens = before + more;
                        let record = Record::Reserve { id, at: now.wall_ms, payer: payer(), tokens, money_nanos: Money::ZERO };
                        enter(&mut books, record, 0);
                        open[which].1 = tokens;
                        admitted.get_mut(&id).unwrap().push((now.second, more));
                    }
                }
                Step::Settle { which, part } if !open.is_empty() => {
                    let (id, reserved) = open.remove(which % open.len());
                    let really = reserved * part.min(100) / 100;
                    let record = Record::Settle { id, at: now.wall_ms, payer: payer(), used: used(really) };
                    enter(&mut books, record, really);
                    // What was not used is given back from the last that was taken.
                    let mut back = reserved - really;
                    for (_, tokens) in admitted.get_mut(&id).unwrap().iter_mut().rev() {
                        let less = back.min(*tokens);
                        *tokens -= less;
                        back -= less;
                    }
                }
                Step::Pass { seconds } => {
                    now.second += seconds;
                    now.wall_ms += 1000 * i64::try_from(seconds).unwrap();
                }
                Step::Jump { hours } => now.wall_ms += hours * 3_600_000,
                Step::Cover { .. } | Step::Settle { .. } => {}
            }
        }
        let all: Vec<(u64, u64)> = admitted.values().flatten().copied().collect();
        for (second, _) in &all {
            let minute: u64 = all.iter().filter(|(other, _)| (*second..=second + 60).contains(other)).map(|(_, tokens)| tokens).sum();
            prop_assert!(minute <= PER_MINUTE, "{minute} in the minute from {second}");
            let requests = admitted.values().filter(|parts| (*second..=second + 60).contains(&parts[0].0)).count();
            prop_assert!(requests <= 9, "{requests} requests");
        }
        prop_assert!(*sent.last().unwrap() <= BUDGET);

        // A crash after any record, and at any byte of the next.
        let survived = (crash * records.len() as f64) as usize;
        let folder = tempfile::tempdir().unwrap();
        let mut text = Vec::new();
        line(&mut text, &Record::Snapshot(Box::default())).unwrap();
        for (record, _) in &records[..survived] {
            line(&mut text, record).unwrap();
        }
        text.extend_from_slice(b"1234abcd {\"settle\":{\"id\"");
        let usage = folder.path().join("usage");
        fs::create_dir(&usage).unwrap();
        fs::write(usage.join("usage-00000001.log"), &text).unwrap();
        let (desk, opened) = Desk::open(options(&folder)).unwrap();
        prop_assert_eq!(opened.damage.lines, 0);
        let known = desk.usage().iter().find(|(other, ..)| *other == account).map_or(0, |(_, sums, _)| sums[2].tokens());
        prop_assert!(known >= sent[survived], "{known} known, {} sent", sent[survived]);
        prop_assert!(desk.usage().iter().all(|(_, _, reserved)| *reserved == Amount::NOTHING));
    }

    /// Books that go through a file are the same books.
    #[test]
    fn a_snapshot_is_all_there_is(steps in steps()) {
        let mut books = Books::default();
        let mut now = 1_000_000;
        let mut open = Vec::new();
        for step in steps {
            match step {
                Step::Reserve { tokens } => {
                    let id = books.next_id();
                    books.apply(&Record::Reserve { id, at: 5, payer: payer(), tokens, money_nanos: Money::of_nanos(tokens) }, now);
                    open.push(id);
                }
                Step::Settle { which, part } if !open.is_empty() => {
                    let id = open.remove(which % open.len());
                    books.apply(&Record::Settle { id, at: 5, payer: payer(), used: used(part) }, now);
                }
                Step::Pass { seconds } => now += seconds,
                _ => {}
            }
        }
        let json = serde_json::to_string(&Record::Snapshot(Box::new(books.snapshot()))).unwrap();
        let mut again = Books::default();
        again.apply(&serde_json::from_str(&json).unwrap(), now);
        prop_assert_eq!(again, books);
    }
}
