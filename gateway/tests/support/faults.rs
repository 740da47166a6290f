//! The table of faults: what a test has seen, as a line of Markdown, where REPRISE_FAULTS names a file for it.

use std::fs::File;
use std::io::Write as _;

/// To be called after the assertions: what is told was so.
pub fn tell(fault: &str, client_saw: &str, lost: &str) {
    let Some(path) = std::env::var_os("REPRISE_FAULTS") else { return };
    let mut file = File::options().create(true).append(true).open(path).expect("the table of faults");
    writeln!(file, "| {fault} | {client_saw} | {lost} |").expect("a line of the table");
}
