//! Fetching models from sources that the tests build: a hub, wheels, folders.
#![cfg(test)]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its data has failed")]

mod folder;
mod hub;
mod package;
mod support;
