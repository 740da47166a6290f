//! The engine from outside, with real model files.

mod batching;
mod common;
mod forms;
mod generation;
mod speed;
mod tokenizer;
