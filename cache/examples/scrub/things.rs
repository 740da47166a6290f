//! Things that a scrubber has to find or to leave, as people write them.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Those that have a mark, then those that the scrubber does not claim to know, then what is none.
pub const KINDS: [&str; 11] =
    ["email", "phone", "card", "iban", "ssn", "ip", "key", "token", "name", "address", "decoy"];

#[derive(Debug)]
pub struct Text {
    pub kind: &'static str,
    pub form: &'static str,
    pub before: String,
    pub thing: String,
    pub after: String,
}

impl Text {
    pub fn whole(&self) -> String {
        format!("{}{}{}", self.before, self.thing, self.after)
    }
}

const AROUND: [(&str, &str); 12] = [
    ("My contact is ", ", please note it."),
    ("Summarise this message: I am Alex, reach me under ", "."),
    ("Is ", " valid?"),
    ("", ""),
    ("Customer record: ", "; status: open"),
    ("Translate to French: \"Please use ", " for this.\""),
    ("We got (", ") from the form."),
    ("Here it is:\n", "\nThanks!"),
    ("value=", "\n"),
    ("{\"field\": \"", "\"}"),
    ("Bitte an ", " senden"),
    ("Old: none. New: ", ""),
];
const FIRST: [&str; 8] = ["Alice", "Bob", "José", "Zoë", "Wei", "Fatima", "Olga", "Liam"];
const LAST: [&str; 8] = ["Smith", "Müller", "García", "O'Neil", "Chen", "Haddad", "Ivanova", "Brown"];
const WORDS: [&str; 8] = ["alpha", "lake", "stone", "river", "cloud", "north", "maple", "delta"];
const DOMAINS: [&str; 7] =
    ["example.com", "mail.example.org", "firma.de", "uni-x.ac.uk", "post.co.jp", "bücher.example", "a.io"];
const STREETS: [&str; 5] = ["Main Street", "Elm Ave", "Hauptstraße", "Rue de Rivoli", "Kings Road"];

pub fn text(kind: &'static str, rng: &mut ChaCha8Rng) -> Text {
    let (form, thing) = match kind {
        "email" => email(rng),
        "phone" => phone(rng),
        "card" => card(rng),
        "iban" => iban(rng),
        "ssn" => ssn(rng),
        "ip" => ip(rng),
        "key" => key(rng),
        "token" => token(rng),
        "name" => ("full name", format!("{} {}", pick(&FIRST, rng), pick(&LAST, rng))),
        "address" => ("street and number", format!("{} {}", rng.random_range(1..200), pick(&STREETS, rng))),
        _ => decoy(rng),
    };
    let (before, after) = *AROUND.choose(rng).unwrap_or(&AROUND[0]);
    Text { kind, form, before: before.to_owned(), thing, after: after.to_owned() }
}

fn pick<'a>(from: &[&'a str], rng: &mut ChaCha8Rng) -> &'a str {
    from.choose(rng).copied().unwrap_or_default()
}

fn digits(count: usize, rng: &mut ChaCha8Rng) -> String {
    (0..count).map(|_| char::from(b'0' + rng.random_range(0..10_u8))).collect()
}

fn letters(count: usize, alphabet: &str, rng: &mut ChaCha8Rng) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    (0..count).filter_map(|_| alphabet.choose(rng)).collect()
}

const ALL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

fn email(rng: &mut ChaCha8Rng) -> (&'static str, String) {
    let (a, b, domain) = (pick(&FIRST, rng).to_lowercase(), pick(&WORDS, rng), pick(&DOMAINS, rng));
    match rng.random_range(0..4) {
        0 => ("plain", format!("{a}@{domain}")),
        1 => ("dotted", format!("{a}.{b}@{domain}")),
        2 => ("plus tag", format!("{a}+{b}{}@{domain}", digits(2, rng))),
        _ => ("capitals", format!("{}_{}@{}", a.to_uppercase(), b.to_uppercase(), domain.to_uppercase())),
    }
}

fn phone(rng: &mut ChaCha8Rng) -> (&'static str, String) {
    match rng.random_range(0..7) {
        0 => ("E.164", format!("+{}{}", pick(&["1", "44", "49", "81"], rng), digits(10, rng))),
        1 => ("international", format!("+49 {} {}", digits(3, rng), digits(7, rng))),
        2 => ("international, groups", format!("+44 20 {} {}", digits(4, rng), digits(4, rng))),
        3 => ("US, brackets", format!("({}) {}-{}", digits(3, rng), digits(3, rng), digits(4, rng))),
        4 => ("US, hyphens", format!("{}-{}-{}", digits(3, rng), digits(3, rng), digits(4, rng))),
        5 => ("national, no word", format!("0{} {}", digits(3, rng), digits(7, rng))),
        _ => ("US, dots", format!("{}.{}.{}", digits(3, rng), digits(3, rng), digits(4, rng))),
    }
}

fn card(rng: &mut ChaCha8Rng) -> (&'static str, String) {
    let (prefix, length) = *[("4", 16), ("51", 16), ("34", 15), ("6011", 16), ("36", 14), ("2221", 16)]
        .choose(rng)
        .unwrap_or(&("4", 16));
    let mut number = format!("{prefix}{}", digits(length - prefix.len() - 1, rng));
    let sum: u32 = number
        .chars()
        .rev()
        .enumerate()
        .filter_map(|(at, c)| Some((at, c.to_digit(10)?)))
        .map(|(at, digit)| if at % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { digit })
        .sum();
    number.push_str(&((10 - sum % 10) % 10).to_string());
    let group = |with: char| -> String {
        let grouped = number.as_bytes().chunks(4).map(|part| String::from_utf8_lossy(part).into_owned());
        grouped.collect::<Vec<_>>().join(&with.to_string())
    };
    match rng.random_range(0..3) {
        0 => ("digits", number),
        1 => ("blanks", group(' ')),
        _ => ("hyphens", group('-')),
    }
}

fn iban(rng: &mut ChaCha8Rng) -> (&'static str, String) {
    let (country, account) = match rng.random_range(0..4) {
        0 => ("DE", digits(18, rng)),
        1 => ("GB", format!("{}{}", letters(4, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", rng), digits(14, rng))),
        2 => ("FR", digits(23, rng)),
        _ => ("ES", digits(20, rng)),
    };
    let rest = format!("{account}{country}00")
        .chars()
        .filter_map(|c| c.to_digit(36))
        .fold(0, |rest, value| (rest * if value > 9 { 100 } else { 10 } + value) % 97);
    let whole = format!("{country}{:02}{account}", 98 - rest);
    if rng.random_bool(0.5) {
        return ("compact", whole);
    }
    let groups = whole.as_bytes().chunks(4).map(|part| String::from_utf8_lossy(part).into_owned());
    ("groups of four", groups.collect::<Vec<_>>().join(" "))
}

fn ssn(rng: &mut ChaCha8Rng) -> (&'static str, String) {
    let area = loop {
        let area = rng.random_range(1..900);
        if area != 666 {
            break area;
        }
    };
    ("3-2-4", format!("{area:03}-{:02}-{:04}", rng.random_range(1..100), rng.random_range(1..10_000)))
}

fn ip(rng: &mut ChaCha8Rng) -> (&'static str, String) {
    let group = |rng: &mut ChaCha8Rng| format!("{:x}", rng.random_range(1..0x1_0000));
    match rng.random_range(0..4) {
        0 => ("IPv6", (0..8).map(|_| group(rng)).collect::<Vec<_>>().join(":")),
        1 => ("IPv6, shortened", format!("2001:db8:{}::{}", group(rng), group(rng))),
        _ => {
            let first = pick(&["10", "85", "192", "203"], rng);
            let rest: Vec<String> = (0..3).map(|_| rng.random_range(1..255_u8).to_string()).collect();
            ("IPv4", format!("{first}.{}", rest.join(".")))
        }
    }
}

fn key(rng: &mut ChaCha8Rng) -> (&'static str, String) {
    match rng.random_range(0..7) {
        0 => ("OpenAI", format!("sk-proj-{}", letters(40, ALL, rng))),
        1 => ("AWS", format!("AKIA{}", letters(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", rng))),
        2 => ("GitHub", format!("ghp_{}", letters(36, ALL, rng))),
        3 => ("Slack", format!("xoxb-{}-{}", digits(11, rng), letters(24, ALL, rng))),
        4 => ("Google", format!("AIza{}", letters(35, ALL, rng))),
        5 => ("Hugging Face", format!("hf_{}", letters(34, ALL, rng))),
        _ => (
            "PEM",
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", letters(128, ALL, rng)),
        ),
    }
}

fn token(rng: &mut ChaCha8Rng) -> (&'static str, String) {
    if rng.random_bool(0.5) {
        return ("bearer", format!("Bearer {}", letters(32, ALL, rng)));
    }
    ("JWT", format!("eyJ{}.eyJ{}.{}", letters(30, ALL, rng), letters(60, ALL, rng), letters(43, ALL, rng)))
}

fn decoy(rng: &mut ChaCha8Rng) -> (&'static str, String) {
    let n = |low: u32, high: u32, rng: &mut ChaCha8Rng| rng.random_range(low..high);
    match n(0, 16, rng) {
        0 => ("sum", format!("{} + {} = {}", n(100, 99_999, rng), n(100, 99_999, rng), n(100, 99_999, rng))),
        1 => ("date", format!("{}-{:02}-{:02}", n(1990, 2030, rng), n(1, 13, rng), n(1, 29, rng))),
        2 => ("time", format!("{:02}:{:02}:{:02}", n(0, 24, rng), n(0, 60, rng), n(0, 60, rng))),
        3 => (
            "version",
            format!("version {}.{}.{}.{}", n(0, 20, rng), n(0, 20, rng), n(0, 20, rng), n(0, 20, rng)),
        ),
        4 => ("order number", format!("order {}", digits(10, rng))),
        5 => ("16 digits, no card", format!("9{}", digits(15, rng))),
        6 => ("ISBN", format!("978-{}-{}-{}-{}", n(0, 9, rng), digits(4, rng), digits(4, rng), n(0, 9, rng))),
        7 => ("UUID", {
            let mut hex = |count| letters(count, "0123456789abcdef", rng);
            format!("{}-{}-4{}-a{}-{}", hex(8), hex(4), hex(3), hex(3), hex(12))
        }),
        8 => ("hash", letters(40, "0123456789abcdef", rng)),
        9 => ("loopback", "127.0.0.1".to_owned()),
        10 => ("price", format!("${},{}.{}", n(1, 99, rng), digits(3, rng), digits(2, rng))),
        11 => ("module", format!("sk-learn-{}-estimator", pick(&WORDS, rng))),
        12 => ("ratio", format!("{}:{}:{}", n(1, 99, rng), n(1, 99, rng), n(1, 99, rng))),
        13 => ("handle", format!("@{}{}", pick(&WORDS, rng), n(1, 99, rng))),
        14 => ("large number", digits(12, rng)),
        _ => {
            ("MAC address", (0..6).map(|_| letters(2, "0123456789abcdef", rng)).collect::<Vec<_>>().join(":"))
        }
    }
}
