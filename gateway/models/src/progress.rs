use std::{fmt, io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Told how a pull goes. Calls come from several threads.
pub trait Progress: Send + Sync + fmt::Debug {
    /// A step worth a line: a source tried, given up, a file verified.
    fn note(&self, line: &str);

    /// `file` is being fetched; `done` of `total` bytes are there already.
    fn begin(&self, file: &str, done: u64, total: u64);

    fn advance(&self, bytes: u64);

    fn end(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn note(&self, _line: &str) {}
    fn begin(&self, _file: &str, _done: u64, _total: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
}

/// A bar on a terminal's standard error; elsewhere a line for each step.
#[derive(Debug)]
pub struct ConsoleProgress {
    bar: ProgressBar,
    terminal: bool,
}

impl ConsoleProgress {
    #[must_use]
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let template = "{msg:40} [{wide_bar}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, terminal }
    }
}

impl Default for ConsoleProgress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for ConsoleProgress {
    fn note(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    fn begin(&self, file: &str, done: u64, total: u64) {
        if self.terminal {
            self.bar.reset();
            self.bar.set_length(total);
            self.bar.set_position(done);
            self.bar.set_message(file.to_owned());
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(250));
        } else {
            eprintln!("  {file}: {:.1} MB to fetch", total.saturating_sub(done) as f64 / 1e6);
        }
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn end(&self) {
        self.bar.disable_steady_tick();
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }
}
