use crate::gateway::admin::TierInfo;

/// Who wrote an answer. Two authors are the same if they share the tier's name or the model: one model behind two
/// names must not judge itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// A tier of the pool, or what an import called its source.
    pub name: String,
    /// The model's id, where the pool knows the name.
    pub model: Option<String>,
}

/// An answer and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub text: String,
    pub author: Author,
}

impl Author {
    #[must_use]
    pub fn tier(tier: &TierInfo) -> Self {
        Self { name: tier.name.clone(), model: Some(tier.model.clone()) }
    }

    /// The author that an example names, looked up in the pool by tier or by model.
    #[must_use]
    pub fn of_example(source_tier: &str, tiers: &[TierInfo]) -> Self {
        let known = tiers
            .iter()
            .find(|tier| tier.name == source_tier)
            .or_else(|| tiers.iter().find(|tier| bare(&tier.model) == bare(source_tier)));
        match known {
            Some(tier) => Self::tier(tier),
            None => Self { name: source_tier.to_owned(), model: None },
        }
    }

    /// True if a tier of the pool wrote it, rather than a person or a data set.
    #[must_use]
    pub fn is_tier(&self) -> bool {
        self.model.is_some()
    }

    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let names = |author: &Self| {
            let mut names = vec![bare(&author.name)];
            names.extend(author.model.as_deref().map(bare));
            names
        };
        let ours = names(self);
        names(other).iter().any(|name| !name.is_empty() && ours.contains(name))
    }
}

/// A model's name without the organisation before it: servers differ in whether they repeat it.
fn bare(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author(name: &str, model: Option<&str>) -> Author {
        Author { name: name.into(), model: model.map(Into::into) }
    }

    #[test]
    fn a_model_behind_another_name_is_the_same_author() {
        let small = author("small", Some("SmolLM2-135M-Instruct"));
        assert!(small.same_as(&author("small", None)));
        assert!(small.same_as(&author("judge", Some("HuggingFaceTB/smollm2-135m-instruct"))));
        assert!(!small.same_as(&author("large", Some("qwen2.5-coder-1.5b"))));
        assert!(!author("", None).same_as(&author("", None)), "nobody is not somebody");
    }
}
