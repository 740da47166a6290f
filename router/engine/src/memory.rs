//! Whether a model fits into the memory that is left, asked before it is loaded.

use std::{fmt, fs, path::Path};

use crate::{EngineError, LocalConfig, backend::MemoryEstimate, loader::Checkpoint};

/// Memory that this process can still take, and what says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvailableMemory {
    pub bytes: u64,
    pub bound: MemoryBound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryBound {
    /// `MemAvailable` in `/proc/meminfo`.
    Machine,
    /// The limit of a control group less what it uses and cannot give back.
    ControlGroup,
    /// What the driver of a GPU calls free.
    Device,
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "of the machine",
            Self::ControlGroup => "under the control group's limit",
            Self::Device => "of the GPU's own memory",
        })
    }
}

/// `3501 MB: weights 3000 MB, KV 500 MB, hidden states 1 MB, buffers 0 MB`
impl fmt::Display for MemoryEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [all, weights, kv, arena, scratch] =
            [self.total(), self.weights, self.kv, self.arena, self.scratch]
                .map(|bytes| megabytes(bytes as u64));
        write!(f, "{all}: weights {weights}, KV {kv}, hidden states {arena}, buffers {scratch}")
    }
}

/// Rounded.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{} MB", (bytes + 500_000) / 1_000_000)
}

impl AvailableMemory {
    /// `None` where the system does not tell: not Linux, or `/proc` is hidden.
    #[must_use]
    pub fn now() -> Option<Self> {
        let read = |path: &Path| fs::read_to_string(path).ok();
        Self::from_files(&read)
    }

    fn from_files(read: &dyn Fn(&Path) -> Option<String>) -> Option<Self> {
        let machine = kilobytes(&read(Path::new("/proc/meminfo"))?, "MemAvailable:")?;
        let machine = Self { bytes: machine, bound: MemoryBound::Machine };
        let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let limits = groups.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            smallest(controllers, Path::new(path), read)
        });
        let group = limits.min().map(|bytes| Self { bytes, bound: MemoryBound::ControlGroup });
        Some(group.filter(|group| group.bytes < machine.bytes).unwrap_or(machine))
    }
}

/// What a control group and those above it leave. Version 2 has one hierarchy; version 1 one for `memory`.
fn smallest(controllers: &str, path: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let (root, limit, usage) = if controllers.is_empty() {
        ("/sys/fs/cgroup", "memory.max", "memory.current")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    } else {
        return None;
    };
    // In a container the path is often that of the host, and the container's own group is mounted as the root.
    let groups = path
        .ancestors()
        .filter_map(|group| group.strip_prefix("/").ok())
        .map(|group| Path::new(root).join(group));
    let left = |group: &Path| {
        let number = |name| read(&group.join(name))?.trim().parse::<u64>().ok();
        // "max" is no number: no limit.
        let (limit, used) = (number(limit)?, number(usage)?);
        // Cached files count as used, and are given back on demand.
        let statistics = read(&group.join("memory.stat")).unwrap_or_default();
        let cached = field(&statistics, "inactive_file").unwrap_or(0);
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    };
    groups.filter_map(|group| left(&group)).min()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.checked_mul(1024)
}

/// What a tier's model will take of its device's memory, from the header of its file.
///
/// # Errors
/// The file cannot be read or is no model that is known.
pub fn predict(config: &LocalConfig) -> Result<MemoryEstimate, EngineError> {
    let checkpoint = Checkpoint::open(&config.gguf)?;
    #[cfg(feature = "cuda")]
    if let crate::DeviceKind::Cuda(ordinal) = config.device {
        let trained_context = checkpoint.plan().sizes.context_length;
        let options = config.cuda_options(ordinal, trained_context);
        return crate::backend::cuda::estimate(checkpoint.plan(), &options);
    }
    Ok(MemoryEstimate::of(checkpoint.plan(), &config.memory_options(checkpoint.plan().sizes.context_length)))
}

/// Refuses a model that is predicted to take more than there is.
///
/// # Errors
/// [`EngineError::Memory`], with the numbers.
pub fn check_fit(predicted: &MemoryEstimate, available: Option<AvailableMemory>) -> Result<(), EngineError> {
    match available {
        Some(available) if predicted.total() as u64 > available.bytes => {
            Err(EngineError::Memory { predicted: *predicted, available })
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(files: &[(&str, &str)]) -> Option<AvailableMemory> {
        AvailableMemory::from_files(&|path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    const MACHINE: (&str, &str) =
        ("/proc/meminfo", "MemTotal:  900 kB\nMemAvailable:   500 kB\nCached: 7 kB\n");

    #[test]
    fn the_smallest_bound_holds() {
        assert_eq!(available(&[]), None);
        let machine = available(&[MACHINE]).unwrap();
        assert_eq!(machine, AvailableMemory { bytes: 512_000, bound: MemoryBound::Machine });

        let v2 = [
            MACHINE,
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "5\n"),
            ("/sys/fs/cgroup/a/memory.max", "300000\n"),
            ("/sys/fs/cgroup/a/memory.current", "200000\n"),
            ("/sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 50000\n"),
        ];
        assert_eq!(
            available(&v2).unwrap(),
            AvailableMemory { bytes: 150_000, bound: MemoryBound::ControlGroup }
        );

        // Version 1 writes a huge number for no limit; a container sees its own group as the root.
        let v1 = |limit| {
            [
                MACHINE,
                ("/proc/self/cgroup", "3:cpu,cpuacct:/x\n2:memory:/docker/abc\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", limit),
                ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n"),
            ]
        };
        assert_eq!(available(&v1("9223372036854771712\n")).unwrap(), machine);
        assert_eq!(available(&v1("4000\n")).unwrap().bytes, 3000);
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_the_numbers() {
        let predicted =
            MemoryEstimate { weights: 3_000_000_000, kv: 500_000_000, arena: 1_000_000, scratch: 0 };
        let bound = MemoryBound::Machine;
        assert!(check_fit(&predicted, None).is_ok());
        assert!(check_fit(&predicted, Some(AvailableMemory { bytes: 3_501_000_000, bound })).is_ok());
        let error = check_fit(&predicted, Some(AvailableMemory { bytes: 3_499_600_000, bound })).unwrap_err();
        let error = error.to_string();
        for number in ["3501 MB", "3000 MB", "500 MB", "3500 MB"] {
            assert!(error.contains(number), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells() {
        assert!(AvailableMemory::now().is_some_and(|available| available.bytes > 1 << 20));
    }
}
