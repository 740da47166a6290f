//! Stage 6: the conversation with its examples.
//!
//! Instructions first, then the examples as earlier turns, then what was really said: a model follows the pattern of
//! the turns before, and the client's own history stays nearest to the question.

use reprise_tier::{Message, Role};

/// One example: a request and its answer.
pub trait Pair {
    fn request(&self) -> &str;
    fn answer(&self) -> &str;
}

/// `examples` in the order in which they are to stand: most useful last.
#[must_use]
pub fn compose<P: Pair>(messages: &[Message], examples: &[P]) -> Vec<Message> {
    let leading = messages.iter().take_while(|message| message.role == Role::System).count();
    let (instructions, conversation) = messages.split_at(leading);
    let mut composed = Vec::with_capacity(messages.len() + 2 * examples.len());
    composed.extend_from_slice(instructions);
    for example in examples {
        composed.push(Message::new(Role::User, example.request()));
        composed.push(Message::new(Role::Assistant, example.answer()));
    }
    composed.extend_from_slice(conversation);
    composed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct P(&'static str, &'static str);

    impl Pair for P {
        fn request(&self) -> &str {
            self.0
        }

        fn answer(&self) -> &str {
            self.1
        }
    }

    #[test]
    fn examples_stand_between_instructions_and_conversation() {
        let said = [
            Message::new(Role::System, "be brief"),
            Message::new(Role::User, "hi"),
            Message::new(Role::Assistant, "hello"),
            Message::new(Role::User, "why?"),
        ];
        let composed = compose(&said, &[P("q1", "a1"), P("q2", "a2")]);
        let texts: Vec<&str> = composed.iter().map(|message| message.content.as_str()).collect();
        assert_eq!(texts, ["be brief", "q1", "a1", "q2", "a2", "hi", "hello", "why?"]);
        assert_eq!((composed[1].role, composed[2].role), (Role::User, Role::Assistant));
    }

    proptest! {
        #[test]
        fn what_was_said_is_kept_whole_and_in_order(
            roles in prop::collection::vec(0_u8..4, 1..8), count in 0_usize..4,
        ) {
            let role = |n: &u8| [Role::System, Role::User, Role::Assistant, Role::Tool][usize::from(*n)];
            let said: Vec<Message> =
                roles.iter().enumerate().map(|(i, n)| Message::new(role(n), i.to_string())).collect();
            let examples: Vec<P> = (0..count).map(|_| P("q", "a")).collect();
            let composed = compose(&said, &examples);
            let kept: Vec<Message> =
                composed.iter().filter(|message| !matches!(message.content.as_str(), "q" | "a")).cloned().collect();
            prop_assert_eq!(&kept, &said);
            prop_assert_eq!(composed.len(), said.len() + 2 * count);
            prop_assert_eq!(composed.last(), if count > 0 && roles.iter().all(|n| *n == 0) { composed.last() } else { said.last() });
        }
    }
}
