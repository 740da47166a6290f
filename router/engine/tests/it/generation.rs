//! A tier on the real small model: what a caller may rely on. Nothing here depends on speed.

use std::time::{Duration, Instant};

use super::common::{collect, config, endless, ready, request, settled, single};
use reprise_engine::LocalTier;
use reprise_tier::{
    Event, Finish, FinishReason, GenerateRequest, Generation, Message, Pressure, Priority, Role, Sampling,
    Tier, TierError, TierState,
};

#[tokio::test]
async fn answers_are_repeatable() {
    let tier = ready(config(Some(512), 8)).await;
    let ask = async |sampling: Sampling| {
        let request = GenerateRequest { sampling, ..request("What is the capital of France?", 16) };
        collect(tier.submit(request).expect("queued")).await.expect("answered")
    };
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    let (first, finish) = ask(greedy.clone()).await;
    // What llama.cpp answers with the same file, greedy sampling, F16 KV and no flash attention: the model does not know better.
    // (The fifth token is a tie of 0.02 in logits; with other settings llama.cpp itself takes the other one.)
    assert_eq!(first, "L'Étoile, la Cité, la Nation, la Gé");
    assert_eq!(ask(greedy).await.0, first);
    assert!(finish.usage.prompt_tokens > 10 && finish.usage.completion_tokens > 0);

    let seeded = |seed| Sampling { temperature: 1.2, top_p: 0.95, seed: Some(seed), ..Sampling::default() };
    let (drawn, _) = ask(seeded(1)).await;
    assert_eq!(ask(seeded(1)).await.0, drawn);
    let mut others = Vec::new();
    for seed in 2..6 {
        others.push(ask(seeded(seed)).await.0);
    }
    assert!(others.iter().any(|other| *other != drawn), "four other seeds gave the same text: {drawn}");
}

#[tokio::test]
async fn stop_and_length_end_an_answer() {
    let tier = ready(config(Some(512), 8)).await;
    let count = "Count from one to five in words, separated by commas.";
    let (whole, finish) = collect(tier.submit(request(count, 12)).expect("queued")).await.expect("answered");
    assert_eq!((finish.reason, finish.usage.completion_tokens), (FinishReason::Length, 12), "{whole}");

    // A stop string out of the middle of that answer, starting and ending within words.
    let middle = whole.len() / 2;
    let stop = whole.get(middle..middle + 4).expect("ASCII answer").to_owned();
    let expected = &whole[..whole.find(&stop).expect("it is part of it")];
    let request = GenerateRequest { stop: vec![stop], ..request(count, 12) };
    let (text, finish) = collect(tier.submit(request).expect("queued")).await.expect("answered");
    assert_eq!((text.as_str(), finish.reason), (expected, FinishReason::Stop));
}

#[tokio::test]
async fn cancelling_frees_the_worker() {
    let tier = ready(single(None, 8)).await;
    let mut long = tier.submit(endless(4000)).expect("queued");
    assert!(matches!(long.next().await, Some(Ok(Event::Started { .. }))));
    let waiting_cancelled = tier.submit(endless(4000)).expect("queued");
    let next = tier.submit(request("Say hi.", 2)).expect("queued");
    assert_eq!(tier.pressure().running, 1);
    drop(long);
    drop(waiting_cancelled);
    let (_, finish) = collect(next).await.expect("answered");
    assert!(finish.usage.completion_tokens <= 2);
    assert_eq!(tier.pressure().waiting, 0);
}

#[tokio::test]
async fn a_deadline_ends_what_runs_and_what_waits() {
    let tier = ready(single(None, 8)).await;
    let deadline = |seconds| Some(Instant::now() + Duration::from_millis(seconds));
    let mut running =
        tier.submit(GenerateRequest { deadline: deadline(1500), ..endless(6000) }).expect("queued");
    assert!(matches!(running.next().await, Some(Ok(Event::Started { .. }))));
    let waiting =
        tier.submit(GenerateRequest { deadline: deadline(200), ..request("Hi", 2) }).expect("queued");
    assert!(matches!(collect(waiting).await, Err(TierError::DeadlineExceeded)));
    let end = loop {
        match running.next().await.expect("ends") {
            Ok(Event::Delta { .. }) => {}
            other => break other,
        }
    };
    assert!(matches!(end, Err(TierError::DeadlineExceeded)), "{end:?}");
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let tier = ready(config(Some(64), 8)).await;
    assert_eq!(tier.info().context_length, 64);
    let error =
        |request| async { collect(tier.submit(request).expect("queued")).await.expect_err("too long") };
    let exceeded = error(request(&"word ".repeat(300), 4)).await;
    let TierError::ContextExceeded { prompt_tokens, max_tokens: 4, context_length: 64 } = exceeded else {
        panic!("{exceeded:?}")
    };
    assert!(prompt_tokens > 300);
    assert!(matches!(error(request("Hi", 60)).await, TierError::ContextExceeded { max_tokens: 60, .. }));

    // Without max_tokens the answer may fill what is left.
    let open = GenerateRequest { max_tokens: None, ..endless(0) };
    let (_, finish) = collect(tier.submit(open).expect("queued")).await.expect("answered");
    assert!(finish.usage.prompt_tokens + finish.usage.completion_tokens <= 64);
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back_and_interactive_goes_first() {
    let tier = ready(single(None, 2)).await;
    let mut long = tier.submit(endless(4000)).expect("queued");
    assert!(matches!(long.next().await, Some(Ok(Event::Started { .. }))));
    let batch = GenerateRequest { priority: Priority::Batch, ..request("Hi", 1) };
    let mut batch = tier.submit(batch).expect("queued");
    let mut interactive = tier.submit(request("Hi", 1)).expect("queued");
    match tier.submit(request("Hi", 1)) {
        Err(TierError::Overloaded { retry_after }) => assert!(retry_after >= Duration::from_secs(1)),
        other => panic!("{other:?}"),
    }
    let pressure = tier.pressure();
    assert_eq!((pressure.waiting, pressure.running, pressure.queue_capacity), (2, 1, 2));
    assert!(pressure.queued_seconds > 0.0, "{pressure:?}");
    assert!(matches!(long.next().await, Some(Ok(Event::Delta { .. }))));
    assert!(tier.pressure().kv_used > 0.0);
    drop(long);
    tokio::select! {
        biased;
        _ = batch.next() => panic!("batch first"),
        event = interactive.next() => assert!(matches!(event, Some(Ok(Event::Started { .. })))),
    }
    collect(batch).await.expect("answered");
}

#[tokio::test]
async fn a_message_cannot_speak_as_another() {
    let tier = ready(config(Some(1024), 8)).await;
    let started = async |text: &str| {
        let mut generation = tier.submit(request(text, 0)).expect("queued");
        match generation.next().await {
            Some(Ok(Event::Started { prompt_tokens })) => prompt_tokens,
            other => panic!("{other:?}"),
        }
    };
    let plain = started("x").await;
    // As control tokens these would be one token each.
    assert!(started("x<|im_end|>").await >= plain + 4);
    assert!(started("x<|im_start|><|im_end|>").await >= plain + 8);
}

#[tokio::test]
async fn a_block_has_the_same_tokens_wherever_it_stands() {
    let tier = ready(config(Some(2048), 8)).await;
    let turns = [
        ("What is 2+2?", "4"),
        (" leading and trailing \n", "\n\nnewlines\n"),
        ("", "<|im_end|>"),
        ("émoji 😀", "```\ncode  \n```"),
    ];
    let count = async |messages: Vec<Message>| {
        let request = GenerateRequest { messages, ..request("", 0) };
        collect(tier.submit(request).expect("queued")).await.expect("answered").1.usage.prompt_tokens
    };
    let question = || vec![Message::new(Role::User, "And now?")];
    let mut messages = question();
    let mut expected = count(question()).await;
    let system = vec![Message::new(Role::System, "Be brief.")];
    let with_system = count([system.clone(), question()].concat()).await;
    for (user, assistant) in turns {
        let block = vec![Message::new(Role::User, user), Message::new(Role::Assistant, assistant)];
        let tokens = tier.block_tokens(user, assistant);
        assert!(tokens > 0);
        let after_system = count([system.clone(), block.clone(), question()].concat()).await;
        assert_eq!(after_system, with_system + tokens, "{user:?} after a system prompt");
        expected += tokens;
        messages = [block, messages].concat();
        assert_eq!(count(messages.clone()).await, expected, "{user:?} before others");
    }
}

#[tokio::test]
async fn a_missing_file_fails_with_its_reason() {
    let mut config = config(None, 1);
    config.gguf = "/nonexistent/model.gguf".into();
    let tier = LocalTier::load(config);
    match settled(&tier).await {
        TierState::Failed { reason } => assert!(reason.contains("/nonexistent/model.gguf"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(tier.submit(request("Hi", 1)), Err(TierError::NotReady { .. })));
}

#[tokio::test]
async fn shutting_down_ends_all() {
    let tier = ready(single(None, 4)).await;
    let mut running = tier.submit(endless(4000)).expect("queued");
    assert!(matches!(running.next().await, Some(Ok(Event::Started { .. }))));
    let waiting = tier.submit(request("Hi", 1)).expect("queued");
    let closing = std::sync::Arc::clone(&tier);
    tokio::task::spawn_blocking(move || closing.shutdown()).await.expect("joins");
    assert!(matches!(collect(waiting).await, Err(TierError::ShuttingDown)));
    let mut last = None;
    while let Some(event) = running.next().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Err(TierError::ShuttingDown))), "{last:?}");
    assert!(matches!(tier.submit(request("Hi", 1)), Err(TierError::ShuttingDown)));
}

#[tokio::test]
async fn sixty_four_clients_at_once_are_all_answered() {
    let tier = ready(config(Some(512), 64)).await;
    let mut generations = Vec::new();
    for client in 0..64u64 {
        let text = format!("Client {client} asks: how many legs has a spider?");
        let request = GenerateRequest { scope: client % 4, ..request(&text, 8) };
        generations.push(tier.submit(request).expect("queued"));
    }
    let together = all_of(generations).await;
    for (client, (text, finish)) in together.iter().enumerate() {
        assert!(finish.usage.completion_tokens > 0 && !text.is_empty(), "{client}");
    }
    // A few of them again, each alone: the same words.
    for client in [0usize, 13, 63] {
        let text = format!("Client {client} asks: how many legs has a spider?");
        let (alone, _) = collect(tier.submit(request(&text, 8)).expect("queued")).await.expect("answered");
        assert_eq!(alone, together[client].0, "{client}");
    }
    until(&tier, |pressure| (pressure.waiting, pressure.running, pressure.kv_used) == (0, 0, 0.0)).await;
}

#[tokio::test]
async fn a_second_request_does_not_wait_for_the_first() {
    let tier = ready(config(None, 8)).await;
    let mut long = tier.submit(endless(4000)).expect("queued");
    assert!(matches!(long.next().await, Some(Ok(Event::Started { .. }))));
    collect(tier.submit(request("Say hi.", 2)).expect("queued")).await.expect("answered");
    until(&tier, |pressure| pressure.running == 1).await;
    assert!(matches!(long.next().await, Some(Ok(Event::Delta { .. }))), "the first goes on");
    drop(long);
    until(&tier, |pressure| (pressure.running, pressure.kv_used) == (0, 0.0)).await;
}

/// Waits for what the worker reports between two ticks.
async fn until(tier: &LocalTier, holds: impl Fn(Pressure) -> bool) {
    let begun = Instant::now();
    while !holds(tier.pressure()) {
        assert!(begun.elapsed() < Duration::from_secs(240), "{:?}", tier.pressure());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[expect(clippy::expect_used, reason = "helper of tests")]
async fn all_of(generations: Vec<Generation>) -> Vec<(String, Finish)> {
    let mut answers = Vec::new();
    // Their events wait in their channels: who is read first makes no difference.
    for generation in generations {
        answers.push(collect(generation).await.expect("answered"));
    }
    answers
}
