//! What stands in the models' folder, and who may write there.

use std::{
    fs::{self, File},
    path::Path,
    sync::Arc,
    time::Duration,
};

use crate::support::{manifest, puller};
use reprise_models::{Integrity, Manifest, Presence, PullError};
use tempfile::tempdir;

fn local(source: &Path) -> Arc<Manifest> {
    fs::write(source.join("toy.bin"), "genuine").unwrap();
    manifest(
        &[("toy.bin", b"genuine")],
        &format!("[[models.sources]]\nlocal = {:?}\n", source.to_str().unwrap()),
    )
}

#[tokio::test]
async fn a_verified_file_is_not_hashed_again_unless_asked_to() {
    let (models, source) = (tempdir().unwrap(), tempdir().unwrap());
    let manifest = local(source.path());
    let (puller, _) = puller(&manifest, models.path(), source.path());
    assert_eq!(puller.presence(&manifest.models[0]), Presence::Absent);
    let file = puller.pull("toy").await.unwrap().join("toy.bin");
    assert_eq!(puller.verify("toy").await.unwrap(), [("toy.bin".to_owned(), Integrity::Intact)]);

    // Same size, same time: only the bytes tell.
    let changed = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "forgery").unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(changed).unwrap();
    assert_eq!(puller.presence(&manifest.models[0]), Presence::Complete);
    let verified = puller.verify("toy").await.unwrap();
    assert!(matches!(verified[0].1, Integrity::Damaged { .. }), "{verified:?}");

    fs::remove_file(&file).unwrap();
    assert_eq!(puller.verify("toy").await.unwrap()[0].1, Integrity::Missing);
}

#[tokio::test]
async fn a_damaged_file_is_fetched_again() {
    let (models, source) = (tempdir().unwrap(), tempdir().unwrap());
    let manifest = local(source.path());
    let (puller, _) = puller(&manifest, models.path(), source.path());
    let file = puller.pull("toy").await.unwrap().join("toy.bin");
    fs::write(&file, "cut").unwrap();
    assert_eq!(puller.presence(&manifest.models[0]), Presence::Partial);
    puller.pull("toy").await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"genuine");
}

#[tokio::test]
async fn files_that_somebody_put_there_need_no_source_and_no_write() {
    let (models, source) = (tempdir().unwrap(), tempdir().unwrap());
    let manifest = local(source.path());
    let (puller, _) = puller(&manifest, models.path(), source.path());
    let folder = models.path().join("toy");
    fs::create_dir(&folder).unwrap();
    fs::rename(source.path().join("toy.bin"), folder.join("toy.bin")).unwrap();
    // In the way of the mark, as a read-only folder is.
    fs::create_dir(folder.join("toy.bin.verified")).unwrap();
    puller.pull("toy").await.unwrap();
    assert!(!folder.join(".lock").exists());
}

#[tokio::test]
async fn a_second_pull_waits_for_the_first() {
    let (models, source) = (tempdir().unwrap(), tempdir().unwrap());
    let manifest = local(source.path());
    let (puller, notes) = puller(&manifest, models.path(), source.path());
    let folder = models.path().join("toy");
    fs::create_dir(&folder).unwrap();
    let first = File::create(folder.join(".lock")).unwrap();
    first.lock().unwrap();

    let second = tokio::spawn(async move { puller.pull("toy").await });
    while !notes.contain("another process is fetching it; waiting") {
        assert!(!second.is_finished(), "it did not wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!folder.join("toy.bin").exists());
    drop(first);
    assert_eq!(second.await.unwrap().unwrap(), folder);
    assert!(folder.join("toy.bin").exists());
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_known_ones() {
    let (models, source) = (tempdir().unwrap(), tempdir().unwrap());
    let (puller, _) = puller(&local(source.path()), models.path(), source.path());
    let error = puller.pull("toyy").await.unwrap_err();
    assert!(matches!(&error, PullError::Unknown { known, .. } if known == &["toy"]), "{error}");
}
