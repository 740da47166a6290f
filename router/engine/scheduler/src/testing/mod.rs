//! A backend without a model, for tests.
#![expect(clippy::panic, reason = "a broken contract between scheduler and backend ends the test")]

mod fake;

pub use fake::{Fake, FakePayload, Fault};
