use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{
    GgufError, Header, Tensor, Upcycle, UpcycleError,
    gate::gate,
    gguf::write_header,
    plan::{Content, Plan},
};

const BUFFER: usize = 1 << 20;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Those upcycled, ascending, counted from 0.
    pub layers: Vec<u32>,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// Writes the upcycled copy of a dense GGUF model. The same source and options give the same bytes. The target appears whole or
/// not at all; an older file of that name is replaced. `progress` is told the tensor bytes written since it was last told, and the
/// number of all of them.
///
/// # Errors
/// The source is no dense llama model, the options do not fit it, or a file cannot be read or written.
pub fn upcycle(
    source: &Path,
    target: &Path,
    options: &Upcycle,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, UpcycleError> {
    let of_source = |error: GgufError| UpcycleError::Source { path: source.to_owned(), source: error };
    let of_target = |error: io::Error| UpcycleError::Write { path: target.to_owned(), source: error };
    if let (Ok(from), Ok(to)) = (fs::canonicalize(source), fs::canonicalize(target))
        && from == to
    {
        return Err(UpcycleError::SameFile(from));
    }
    let mut from = File::open(source).map_err(|error| of_source(error.into()))?;
    let length = from.metadata().map_err(|error| of_source(error.into()))?.len();
    let header = Header::read(BufReader::new(&from), length).map_err(of_source)?;
    // Before the hash, which takes a second for each gigabyte: what does not fit is said at once.
    Plan::new(&header, "", options)?;
    let sha256 = hash(&mut from).map_err(|error| of_source(error.into()))?;
    let plan = Plan::new(&header, &sha256, options)?;

    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Created with the permissions of any file, which a temporary file otherwise does not have.
    let mut file = tempfile::Builder::new()
        .prefix(".upcycling-")
        .make_in(folder, |path| File::create_new(path))
        .map_err(of_target)?;
    let (bytes, sha256) =
        write(&plan, &mut from, file.as_file_mut(), options.seed, progress).map_err(|fault| match fault {
            Fault::Source(error) => of_source(error.into()),
            Fault::Target(error) => of_target(error),
        })?;
    file.as_file().sync_all().map_err(of_target)?;
    file.persist(target).map_err(|error| of_target(error.error))?;
    Ok(Summary { layers: plan.layers, bytes, sha256 })
}

/// Whose fault it was.
enum Fault {
    Source(io::Error),
    Target(io::Error),
}

struct Hashing<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Returns the size and the hash of what it wrote.
fn write(
    plan: &Plan,
    source: &mut File,
    target: &mut File,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(u64, String), Fault> {
    let mut out = Hashing { out: BufWriter::with_capacity(BUFFER, target), hash: Sha256::new(), bytes: 0 };
    let tensors: Vec<Tensor> = plan.tensors.iter().map(|(tensor, _)| tensor.clone()).collect();
    write_header(&mut out, &plan.entries, &tensors, plan.alignment).map_err(Fault::Target)?;
    let (all, mut buffer) = (plan.data_bytes(), vec![0; BUFFER]);
    for (tensor, content) in &plan.tensors {
        match *content {
            Content::Copies { from, bytes, times } => {
                for _ in 0..times {
                    source.seek(SeekFrom::Start(from)).map_err(Fault::Source)?;
                    copy(source, &mut out, bytes, &mut buffer)?;
                }
            }
            Content::Gate { layer } => {
                let numbers = usize::try_from(tensor.shape.iter().product::<u64>());
                let numbers = numbers.map_err(|error| Fault::Target(io::Error::other(error)))?;
                for number in gate(seed, layer, numbers) {
                    out.write_all(&number.to_le_bytes()).map_err(Fault::Target)?;
                }
            }
        }
        let padded = tensor.bytes.next_multiple_of(plan.alignment);
        let padding = vec![0; usize::try_from(padded - tensor.bytes).unwrap_or(0)];
        out.write_all(&padding).map_err(Fault::Target)?;
        progress(padded, all);
    }
    out.flush().map_err(Fault::Target)?;
    Ok((out.bytes, hexadecimal(out.hash)))
}

fn copy(from: &mut File, out: &mut impl Write, bytes: u64, buffer: &mut [u8]) -> Result<(), Fault> {
    let mut left = bytes;
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..size) else { break };
        from.read_exact(part).map_err(Fault::Source)?;
        out.write_all(part).map_err(Fault::Target)?;
        left -= size as u64;
    }
    Ok(())
}

fn hash(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(hash)),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

fn hexadecimal(hash: Sha256) -> String {
    format!("{:x}", hash.finalize())
}
