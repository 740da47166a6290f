//! What the operating system knows of this process. Read from `/proc`; elsewhere it is not known.

use std::fs;

/// Resident memory in bytes.
pub fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

/// When the process started, in seconds since 1970: field 22 of `stat`, in clock ticks since boot, plus the time of boot.
pub fn start_seconds() -> Option<f64> {
    /// `USER_HZ`: 100 on every Linux that `/proc` reports to.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the name, is in brackets and may hold anything.
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / TICKS)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory_and_a_past() {
        assert!(resident_bytes().unwrap() > 1 << 16);
        let now = jiff::Timestamp::now().as_second() as f64;
        let age = now - start_seconds().unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
