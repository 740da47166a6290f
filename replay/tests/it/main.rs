//! Replay against a fake of the gateway's contract, over real HTTP.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod curate;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod import;
mod nights;
#[cfg(test)]
mod report;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod trace;
