#![cfg(test)]
//! The router from outside: simulations on a virtual clock, the pool, and the remote tier against real sockets.

mod convergence;
mod fake_tier;
mod pool;
mod remote;
mod server;
mod step_load;
