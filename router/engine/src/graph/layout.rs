use std::{fmt, str::FromStr};

use crate::EngineError;

/// What a sub-layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubLayerRole {
    /// `a`
    Attention,
    /// `f`: dense feed-forward.
    FeedForward,
    /// `g`: gated mixture of experts.
    Experts,
}

impl SubLayerRole {
    const fn letter(self) -> char {
        match self {
            Self::Attention => 'a',
            Self::FeedForward => 'f',
            Self::Experts => 'g',
        }
    }

    const fn from_letter(letter: char) -> Option<Self> {
        match letter {
            'a' => Some(Self::Attention),
            'f' => Some(Self::FeedForward),
            'g' => Some(Self::Experts),
            _ => None,
        }
    }
}

/// The order of a model's sub-layers, as in Brainformer (arXiv 2306.00008): any order, written with one letter each, as
/// `af af ag`. Spaces mean nothing; printed, one stands before each `a` that follows another letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Layout(Vec<SubLayerRole>);

impl Layout {
    #[must_use]
    pub fn roles(&self) -> &[SubLayerRole] {
        &self.0
    }

    #[must_use]
    pub fn count(&self, role: SubLayerRole) -> usize {
        self.0.iter().filter(|r| **r == role).count()
    }
}

impl FromIterator<SubLayerRole> for Layout {
    fn from_iter<I: IntoIterator<Item = SubLayerRole>>(roles: I) -> Self {
        Self(roles.into_iter().collect())
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = SubLayerRole::Attention;
        for &role in &self.0 {
            if role == SubLayerRole::Attention && before != SubLayerRole::Attention {
                f.write_str(" ")?;
            }
            write!(f, "{}", role.letter())?;
            before = role;
        }
        Ok(())
    }
}

impl FromStr for Layout {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let letters = text.chars().filter(|c| !c.is_whitespace());
        letters
            .map(|letter| {
                SubLayerRole::from_letter(letter).ok_or_else(|| EngineError::Unsupported {
                    what: "sub-layer",
                    value: letter.to_string(),
                    supported: "a, f, g",
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_are_set_apart() {
        let layout: Layout = "afaf\tag aag".parse().expect("letters");
        assert_eq!(layout.to_string(), "af af ag aag");
        assert_eq!(layout.count(SubLayerRole::Attention), 5);
        assert_eq!(layout.roles()[5], SubLayerRole::Experts);
        assert_eq!("".parse::<Layout>().expect("empty").to_string(), "");
    }

    #[test]
    fn another_letter_is_refused_by_name() {
        let error = "af ax".parse::<Layout>().expect_err("x");
        assert!(error.to_string().contains("`x`"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(letters in "[afg ]{0,60}") {
            let layout: Layout = letters.parse().expect("letters");
            let printed = layout.to_string();
            prop_assert_eq!(printed.parse::<Layout>().expect("own print"), layout);
            let without: String = letters.chars().filter(|c| *c != ' ').collect();
            let bare: String = printed.chars().filter(|c| *c != ' ').collect();
            prop_assert_eq!(bare, without);
            prop_assert!(!printed.starts_with(' ') && !printed.ends_with(' ') && !printed.contains("  "));
        }

        #[test]
        fn only_the_three_letters_parse(text in "\\PC{0,12}") {
            let allowed = text.chars().all(|c| c.is_whitespace() || "afg".contains(c));
            prop_assert_eq!(text.parse::<Layout>().is_ok(), allowed);
        }
    }
}
