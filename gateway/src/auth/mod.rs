//! Who asks, and what they may: the tenant comes from the key and from nothing else.

mod caller;
mod keyring;

pub use caller::{AuthError, Caller};
pub use keyring::Keyring;
