//! Whole runs under a virtual clock on the backend of hashes.

mod devices;
mod failure;
mod fairness;
mod properties;
mod simulation;
