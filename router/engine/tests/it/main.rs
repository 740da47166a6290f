//! The engine from outside, with real model files.

mod common;
mod generation;
mod speed;
mod tokenizer;
