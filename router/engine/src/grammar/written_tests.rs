//! Calls that a model writes as JSON, without the marks that its template asks for.

use reprise_tier::ToolChoice;

use super::tests::{admits, mask, tools};

#[test]
fn a_call_written_without_marks_is_held_to_its_schema() {
    let both = tools(ToolChoice::Auto, true);
    let try_it = |text: &str| admits(mask(None, Some(&both)).expect("compiles"), text);
    let fenced = |n: u32| {
        format!("```json\n{{\n  \"name\": \"sum\",\n  \"arguments\": {{\n    \"n\": {n}\n  }}\n}}\n```")
    };
    assert_eq!(try_it(&fenced(3)), (true, true));
    assert_eq!(try_it(&fenced(30)), (false, false), "no such number");
    assert_eq!(try_it(&format!("{}\n\n{}", fenced(3), fenced(4))), (true, true));
    assert_eq!(try_it("{\"name\": \"sum\", \"arguments\": {\"n\": 3}}"), (true, true));
    assert_eq!(try_it("{\"name\": \"sum\", \"arguments\": {\"n\": 3}"), (true, false));
    assert!(!try_it("{\"name\": \"sum\", \"arguments\": \"none\"").0, "arguments are an object");
    // What is no call of one of these functions is text.
    assert_eq!(try_it("```json\n{\"name\": \"John\", \"arguments\": 3}\n```"), (true, true));
    assert_eq!(try_it("Like {\"name\": \"sum\", \"arguments\": 3}."), (true, true));
    let one = tools(ToolChoice::Auto, false);
    let twice = format!("{}\n\n{}", fenced(3), fenced(4));
    assert_eq!(admits(mask(None, Some(&one)).expect("compiles"), &twice), (false, false));
}
