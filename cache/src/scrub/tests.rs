use proptest::prelude::*;

use super::*;

#[test]
fn every_pattern_compiles() {
    assert_eq!(RULES.len(), PATTERNS.len());
}

#[test]
fn personal_data_and_secrets_become_marks() {
    for (text, expected) in [
        ("write to ana.b+c@mail.example.org today", "write to [EMAIL] today"),
        ("an j\u{f6}rg@b\u{fc}ro.example.", "an [EMAIL]."),
        ("card 4111 1111 1111 1111 please", "card [CARD] please"),
        ("4111-1111-1111-1111, 378282246310005", "[CARD], [CARD]"),
        ("4111 1111 1111 1111 12/27 cvc 123", "[CARD] 12/27 cvc 123"),
        ("no 12 5500 0000 0000 0004", "no 12 [CARD]"),
        ("pay DE89 3704 0044 0532 0130 00 now", "pay [IBAN] now"),
        ("DE89 3704 0044 0532 0130 00 BIC COBADEFF", "[IBAN] BIC COBADEFF"),
        ("GB82WEST12345698765432", "[IBAN]"),
        ("FR14 2004 1010 0505 0001 3M02 606", "[IBAN]"),
        ("host 192.168.0.17 down", "host [IP] down"),
        ("at 2001:db8:85a3:0:0:8a2e:370:7334.", "at [IP]."),
        ("at 2001:db8::8a2e:370:7334 and fe80::1:2", "at [IP] and [IP]"),
        ("my ssn is 123-45-6789", "my ssn is [SSN]"),
        ("call +49 30 1234567 or (212) 555-0147", "call [PHONE] or [PHONE]"),
        ("+1 (212) 555-0147 / 212-555-0147", "[PHONE] / [PHONE]"),
        ("Tel.: 030 / 1234567, phone number is 5550147", "Tel.: [PHONE], phone number is [PHONE]"),
        ("key sk-proj-abcdEFGH1234abcdEFGH1234", "key [KEY]"),
        ("sk-ant-api03-aaaaBBBB1111-22223333", "[KEY]"),
        ("AKIAIOSFODNN7EXAMPLE and ghp_abcdefghijklmnopqrst0123", "[KEY] and [KEY]"),
        ("Authorization: Bearer abcdefghijklmnop123456", "Authorization: [TOKEN]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF_123", "[TOKEN]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nend", "[KEY]\nend"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE, cut off", "[KEY]"),
    ] {
        assert_eq!(scrub(text), expected);
    }
}

#[test]
fn ordinary_numbers_and_code_stay() {
    for text in [
        "Natalia sold clips to 48 friends, 1,234,567 in all; 3.14159 and 2026-11-24 at 12:30:45",
        "What is 1234567890123456 + 1?",
        "What is 2+1234567890, and (3) +1234567890?",
        "999999999999999999999999 is not prime; 12345678901234567890 mod 97?",
        "version 1.2.3.4000 and 999.999.999.999",
        "since version 1.2.3.4, v10.0.0.1",
        "bind 127.0.0.1:8080 or 0.0.0.0, mask 255.255.255.0",
        "for i in range(10): x[i] = 0xDEADBEEF ** 2",
        "find . -mtime +30 -size +100 -name '*.rs' | xargs wc -l",
        "Order 4111 1111 1111 1112 has a wrong check digit",
        "std::net::Ipv6Addr::new(a::b)",
        "aa:bb:cc:dd:ee:ff is a MAC, 1:2:3 a ratio",
        "from sk_learn_model_selection import x; a bearer of-important-good-news",
        "UUID 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b, hash d41d8cd98f00b204e9800998ecf8427e",
        "pages 1000-20-3000 of ISBN 978-3-16-148410-0",
        "ratio 3:4:5, 10:15 pm, 1/2/2024, 2024-02-30T10:00:00Z",
        "the phone costs 1200 dollars, 64 GB",
    ] {
        assert!(matches!(scrub(text), Cow::Borrowed(_)), "{} -> {}", text, scrub(text));
    }
}

#[test]
fn a_text_of_nothing_but_marks_is_told() {
    assert!(is_only_marks(&scrub("ana@example.org, +49 30 1234567!")));
    assert!(!is_only_marks(&scrub("mail ana@example.org")));
    assert!(!is_only_marks("?!"));
}

proptest! {
    #[test]
    fn scrubbing_twice_changes_nothing_more(text in "(\\PC|[0-9@. +-]|[a-f0-9]:){0,80}") {
        let once = scrub(&text).into_owned();
        prop_assert_eq!(scrub(&once).into_owned(), once);
    }

    #[test]
    fn pieces_of_secrets_side_by_side_do_no_harm(pieces in prop::collection::vec(prop::sample::select(vec![
        "4111 1111 1111 1111", "4111", " ", "-", "+49", "30 1234567", "DE89 3704 0044 0532 0130 00", "a@b.example",
        "192.168.0.1", ".", ":", "::1", "2001:db8", "sk-", "abcd1234abcd1234", "bearer ", "tel ", "\u{1f600}", "\u{661}",
    ]), 0..12)) {
        let text = pieces.concat();
        let once = scrub(&text).into_owned();
        prop_assert_eq!(scrub(&once).into_owned(), once);
    }

    /// Whatever stands around it.
    #[test]
    fn a_card_is_found_in_any_prose(before in "[a-z ]{0,20}", after in "[a-z ]{0,20}") {
        let text = format!("{before} 4012888888881881 {after}");
        prop_assert!(!scrub(&text).contains("4012888888881881"));
    }
}
