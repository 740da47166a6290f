use std::collections::{BTreeMap, HashMap};

use super::prefix::{self, Prefix};
use crate::BlockId;

/// All KV blocks of a model: which are free, who holds them, and which hold a known prefix.
///
/// A block that nobody holds any more stays findable until it is needed for something else; the longest unused goes first.
/// Holders give their blocks back last to first, so of one prefix the longest part goes first and what remains can still
/// be reached from its root.
#[derive(Debug)]
pub struct BlockPool {
    blocks: Vec<Block>,
    /// Neither held nor published.
    blank: Vec<BlockId>,
    /// Published and not held, by the time they were given back.
    idle: BTreeMap<u64, BlockId>,
    /// Published blocks by hash. Of two prefixes with one hash the second is not published.
    index: HashMap<u64, BlockId>,
    /// Bits of a hash that count; fewer in tests, so that hashes collide.
    hash_mask: u64,
    clock: u64,
    prefixes: u64,
    held: usize,
}

#[derive(Debug, Default)]
struct Block {
    holders: u32,
    given_back: u64,
    published: Option<Published>,
}

#[derive(Debug)]
struct Published {
    hash: u64,
    parent: Prefix,
    tokens: Box<[u32]>,
    prefix: Prefix,
}

impl BlockPool {
    #[must_use]
    pub fn new(blocks: usize) -> Self {
        let ids = 0..u32::try_from(blocks).unwrap_or(u32::MAX);
        Self {
            blank: ids.clone().rev().map(BlockId).collect(),
            blocks: ids.map(|_| Block::default()).collect(),
            idle: BTreeMap::new(),
            index: HashMap::new(),
            hash_mask: u64::MAX,
            clock: 0,
            prefixes: 0,
            held: 0,
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Blocks that sequences hold, each counted once.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Blocks to be had, those with a known prefix included.
    #[must_use]
    pub fn free(&self) -> usize {
        self.blank.len() + self.idle.len()
    }

    /// How many sequences hold this block.
    #[must_use]
    pub fn holders(&self, block: BlockId) -> u32 {
        self.blocks[block.0 as usize].holders
    }

    /// A block for one holder, whose content is to be written. `None`: all are held.
    pub fn take(&mut self) -> Option<BlockId> {
        let block = match self.blank.pop() {
            Some(block) => block,
            None => {
                let (_, block) = self.idle.pop_first()?;
                self.forget(block);
                block
            }
        };
        self.blocks[block.0 as usize].holders = 1;
        self.held += 1;
        Some(block)
    }

    /// The published block of these tokens after this prefix, and the prefix that it completes. The caller gets no hold.
    #[must_use]
    pub fn find(&self, parent: Prefix, tokens: &[u32]) -> Option<(BlockId, Prefix)> {
        let block = *self.index.get(&(prefix::hash(parent, tokens) & self.hash_mask))?;
        let published = self.blocks[block.0 as usize].published.as_ref()?;
        let same = published.parent == parent && *published.tokens == *tokens;
        same.then_some((block, published.prefix))
    }

    /// One more holder of a published block.
    pub fn hold(&mut self, block: BlockId) {
        let entry = &mut self.blocks[block.0 as usize];
        if entry.holders == 0 {
            self.idle.remove(&entry.given_back);
            self.held += 1;
        }
        entry.holders += 1;
    }

    /// Ends one hold.
    pub fn give_back(&mut self, block: BlockId) {
        let entry = &mut self.blocks[block.0 as usize];
        debug_assert!(entry.holders > 0, "{block:?} is given back once too often");
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders > 0 {
            return;
        }
        self.held -= 1;
        if entry.published.is_some() {
            self.clock += 1;
            entry.given_back = self.clock;
            self.idle.insert(self.clock, block);
        } else {
            self.blank.push(block);
        }
    }

    /// Makes a held, fully computed block findable. If another block holds the same already, the caller's hold moves to
    /// that one, since both have the same bits. Returns the block that the caller now holds, and the prefix it completes;
    /// `None` if the hash is taken by another prefix.
    pub fn publish(&mut self, block: BlockId, parent: Prefix, tokens: &[u32]) -> Option<(BlockId, Prefix)> {
        let hash = prefix::hash(parent, tokens) & self.hash_mask;
        if self.index.contains_key(&hash) {
            let (known, prefix) = self.find(parent, tokens)?;
            if known != block {
                self.hold(known);
                self.give_back(block);
            }
            return Some((known, prefix));
        }
        self.prefixes += 1;
        let prefix = Prefix::block(self.prefixes);
        self.index.insert(hash, block);
        self.blocks[block.0 as usize].published =
            Some(Published { hash, parent, tokens: tokens.into(), prefix });
        Some((block, prefix))
    }

    fn forget(&mut self, block: BlockId) {
        if let Some(published) = self.blocks[block.0 as usize].published.take() {
            self.index.remove(&published.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKENS: usize = 2;

    /// A sequence's full blocks, found in the pool or taken from it, as far as there are any; and how many were found.
    fn fill(pool: &mut BlockPool, scope: u64, tokens: &[u32]) -> (Vec<BlockId>, usize) {
        let (mut prefix, mut blocks, mut found) = (Some(Prefix::root(scope)), Vec::new(), 0);
        for chunk in tokens.chunks_exact(TOKENS) {
            if let Some((block, next)) = prefix.and_then(|prefix| pool.find(prefix, chunk)) {
                pool.hold(block);
                (prefix, found) = (Some(next), found + 1);
                blocks.push(block);
                continue;
            }
            let Some(block) = pool.take() else { break };
            let published = prefix.and_then(|prefix| pool.publish(block, prefix, chunk));
            blocks.push(published.map_or(block, |(block, _)| block));
            prefix = published.map(|(_, prefix)| prefix);
        }
        (blocks, found)
    }

    fn drop_all(pool: &mut BlockPool, blocks: &[BlockId]) {
        for block in blocks.iter().rev() {
            pool.give_back(*block);
        }
    }

    #[test]
    fn what_begins_alike_shares_and_stays_findable() {
        let mut pool = BlockPool::new(8);
        let (first, found) = fill(&mut pool, 1, &[1, 2, 3, 4]);
        assert_eq!(found, 0);
        let (second, found) = fill(&mut pool, 1, &[1, 2, 9, 9]);
        assert_eq!((second[0], found), (first[0], 1));
        assert_eq!((pool.held(), pool.holders(first[0])), (3, 2));
        drop_all(&mut pool, &first);
        drop_all(&mut pool, &second);
        assert_eq!((pool.held(), pool.free()), (0, 8));
        let (third, found) = fill(&mut pool, 1, &[1, 2, 3, 4]);
        assert_eq!((third, found), (first, 2));
    }

    #[test]
    fn scopes_share_nothing() {
        let mut pool = BlockPool::new(8);
        let (first, _) = fill(&mut pool, 1, &[1, 2, 3, 4]);
        let (second, found) = fill(&mut pool, 2, &[1, 2, 3, 4]);
        assert_eq!(found, 0);
        assert!(first.iter().all(|block| !second.contains(block)));
    }

    #[test]
    fn the_same_tokens_after_other_tokens_are_another_block() {
        let mut pool = BlockPool::new(8);
        fill(&mut pool, 1, &[1, 2, 5, 5]);
        let (_, found) = fill(&mut pool, 1, &[3, 4, 5, 5]);
        assert_eq!(found, 0);
    }

    #[test]
    fn the_longest_unused_goes_first_and_the_root_last() {
        let mut pool = BlockPool::new(4);
        let (old, _) = fill(&mut pool, 1, &[1, 1, 2, 2]);
        let (new, _) = fill(&mut pool, 1, &[3, 3, 4, 4]);
        drop_all(&mut pool, &old);
        drop_all(&mut pool, &new);
        assert_eq!(pool.take(), Some(old[1]));
        assert!(pool.find(Prefix::root(1), &[1, 1]).is_some());
        assert_eq!([pool.take(), pool.take(), pool.take()], [Some(old[0]), Some(new[1]), Some(new[0])]);
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn one_content_computed_twice_becomes_one_block() {
        let mut pool = BlockPool::new(4);
        let (first, second) = (pool.take().expect("free"), pool.take().expect("free"));
        let root = Prefix::root(1);
        assert_eq!(pool.publish(first, root, &[1, 2]).expect("published").0, first);
        assert_eq!(pool.publish(second, root, &[1, 2]).expect("published").0, first);
        assert_eq!((pool.held(), pool.holders(first), pool.holders(second)), (1, 2, 0));
    }

    proptest! {
        /// With one or two bits of hash nearly all prefixes collide: what is found must be right all the same.
        #[test]
        fn balances_to_zero_and_never_serves_another_prefix(
            bits in 0u32..12,
            steps in proptest::collection::vec(
                (0u64..2, proptest::collection::vec(0u32..3, 0..10), proptest::option::of(0usize..8)), 1..60),
        ) {
            let mut pool = BlockPool::new(12);
            pool.hash_mask = (1 << bits) - 1;
            let mut content: HashMap<BlockId, (u64, Vec<u32>)> = HashMap::new();
            let mut live: Vec<Vec<BlockId>> = Vec::new();
            for (scope, tokens, end) in steps {
                let (blocks, found) = fill(&mut pool, scope, &tokens);
                for (at, block) in blocks.iter().enumerate() {
                    let prefix = (scope, tokens[..(at + 1) * TOKENS].to_vec());
                    if at < found {
                        prop_assert_eq!(&content[block], &prefix);
                    } else {
                        prop_assert_eq!(pool.holders(*block), 1);
                    }
                    content.insert(*block, prefix);
                }
                live.push(blocks);
                if let Some(end) = end && end < live.len() {
                    drop_all(&mut pool, &live.swap_remove(end));
                }
                let held: std::collections::HashSet<_> = live.iter().flatten().collect();
                prop_assert_eq!(pool.held(), held.len());
                prop_assert_eq!(pool.held() + pool.free(), pool.len());
            }
            for blocks in live {
                drop_all(&mut pool, &blocks);
            }
            prop_assert_eq!((pool.held(), pool.free()), (0, 12));
        }
    }
}
