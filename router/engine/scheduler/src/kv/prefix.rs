use std::hash::{DefaultHasher, Hash, Hasher};

/// The identity of a run of full blocks from a sequence's start: what a block's KV depends on besides its own tokens.
///
/// A published block gets a number that is never given again, and its key is (its parent's number, its tokens). So by
/// induction two blocks of one key have the same scope and the same tokens from the start on, whatever a hash says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// No block yet. Sequences of different scopes (tenants) share nothing, because they do not even share this.
    Root(u64),
    Block(u64),
}

impl Prefix {
    #[must_use]
    pub fn root(scope: u64) -> Self {
        Self(Kind::Root(scope))
    }

    pub(super) fn block(number: u64) -> Self {
        Self(Kind::Block(number))
    }
}

/// What a published block is found by. Hits are verified, so the hash need not be a cryptographic one.
pub(super) fn hash(parent: Prefix, tokens: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parent.hash(&mut hasher);
    tokens.hash(&mut hasher);
    hasher.finish()
}
