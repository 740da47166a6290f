use super::*;
use crate::testing::small_model;

fn tiny(name: &str) -> Checkpoint {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny");
    Checkpoint::open(&folder.join(name)).expect("opens")
}

/// Within 2 %, part by part.
fn close(predicted: MemoryEstimate, found: MemoryEstimate) {
    let parts = |m: MemoryEstimate| [m.weights, m.kv, m.arena, m.scratch, m.total()];
    for (predicted, found) in parts(predicted).into_iter().zip(parts(found)) {
        assert!(predicted.abs_diff(found) * 50 <= found, "{predicted} was predicted for {found}");
    }
}

#[test]
fn memory_is_as_predicted_from_the_header() {
    let checkpoints = ["llama-biased", "mixtral-quantised/model.gguf", "qwen2-moe", "qwen3-moe"].map(tiny);
    let real = Checkpoint::open(&small_model()).expect("opens");
    for checkpoint in checkpoints.into_iter().chain([real]) {
        for kv_format in [KvFormat::F16, KvFormat::F32] {
            let options = CpuOptions { context_length: Some(200), ..options(1, kv_format) };
            let predicted = MemoryEstimate::of(checkpoint.plan(), &options);
            // Another handle: `checkpoint` stays for the second format.
            let mut copy = Checkpoint::open(checkpoint.path()).expect("opens again");
            let backend = CpuBackend::load(&mut copy, &options, &mut |_| {}, &|| false).expect("loads");
            close(predicted, backend.memory());
            assert!(predicted.kv > 0 && predicted.arena > 0 && predicted.scratch > 0);
        }
    }
}

#[test]
fn more_of_anything_takes_more() {
    let checkpoint = tiny("olmoe");
    let few = options(1, KvFormat::F16);
    let base = MemoryEstimate::of(checkpoint.plan(), &few);
    let blocks = MemoryEstimate::of(checkpoint.plan(), &CpuOptions { kv_blocks: 48, ..few.clone() });
    let rows = MemoryEstimate::of(checkpoint.plan(), &CpuOptions { rows: 256, ..few.clone() });
    let wide = MemoryEstimate::of(checkpoint.plan(), &CpuOptions { kv_format: KvFormat::F32, ..few });
    assert!(blocks.kv > base.kv * 19 / 10 && blocks.weights == base.weights);
    assert!(wide.kv > base.kv * 19 / 10);
    assert_eq!((rows.arena, rows.scratch), (2 * base.arena, 2 * base.scratch));
}

#[test]
fn loading_tells_how_far_it_is_and_stops_when_told() {
    let options = options(1, KvFormat::F16);
    let mut seen = Vec::new();
    CpuBackend::load(&mut tiny("mixtral"), &options, &mut |progress| seen.push(progress), &|| false)
        .expect("loads");
    assert!(seen.windows(2).all(|pair| pair[0].done < pair[1].done && pair[0].all == pair[1].all));
    let last = seen.last().expect("some");
    assert_eq!(last.done, last.all);

    let begun = std::cell::Cell::new(0);
    let stop = || begun.replace(begun.get() + 1) == 3;
    let stopped = CpuBackend::load(&mut tiny("mixtral"), &options, &mut |_| {}, &stop);
    assert!(matches!(stopped, Err(EngineError::Stopped)));
    assert_eq!(begun.get(), 4);
}
