//! Where a request stands in a trace: W3C Trace Context, <https://www.w3.org/TR/trace-context/>.
//!
//! `tracestate` is not passed on: the specification lets a participant drop it, and it can be large.

use std::fmt;

use http::HeaderName;
use rand::Rng;

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Bit of the flags: whoever sent it records its part.
const SAMPLED: u8 = 1;

pub type TraceId = [u8; 16];
pub type SpanId = [u8; 8];

/// One `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    pub trace: TraceId,
    pub span: SpanId,
    pub sampled: bool,
}

impl Context {
    /// `None` if it is not valid, which is as if there was none.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let version: [u8; 1] = hex(parts.next()?)?;
        let (trace, span) = (hex(parts.next()?)?, hex(parts.next()?)?);
        let [flags] = hex(parts.next()?)?;
        // Version 0 has four parts; a later one may have more.
        let fits = version != [0xff] && (version != [0] || parts.next().is_none());
        let named = trace != [0; 16] && span != [0; 8];
        (fits && named).then_some(Self { trace, span, sampled: flags & SAMPLED != 0 })
    }

    /// A trace of its own.
    pub fn root(sampled: bool, random: &mut impl Rng) -> Self {
        Self { trace: nonzero(random), span: nonzero(random), sampled }
    }

    /// A span in the same trace.
    #[must_use]
    pub fn child(self, random: &mut impl Rng) -> Self {
        Self { span: nonzero(random), ..self }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", u8::from(self.sampled))
    }
}

/// Zeros name nothing.
fn nonzero<const N: usize>(random: &mut impl Rng) -> [u8; N] {
    loop {
        let mut id = [0; N];
        random.fill(&mut id[..]);
        if id != [0; N] {
            return id;
        }
    }
}

/// Lower-case only, as the specification says.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_specifications_example_is_read_and_written() {
        let context = Context::parse(GOOD).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), GOOD);
        assert!(!Context::parse(&GOOD.replace("-01", "-00")).unwrap().sampled);
    }

    #[test]
    fn what_is_not_valid_is_none() {
        for bad in [
            "",
            "00",
            &GOOD.replace("00-0af", "ff-0af"),
            &GOOD.to_uppercase(),
            &format!("{GOOD}-more"),
            &GOOD[..GOOD.len() - 1],
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(Context::parse(bad), None, "{bad}");
        }
        assert!(Context::parse(&format!("{}-more", GOOD.replace("00-0af", "cc-0af"))).is_some());
    }

    #[test]
    fn a_child_stays_in_its_trace() {
        let root = Context::root(true, &mut rand::rng());
        let child = root.child(&mut rand::rng());
        assert_eq!((child.trace, child.sampled), (root.trace, true));
        assert_ne!(child.span, root.span);
    }

    proptest! {
        #[test]
        fn no_header_panics(header in ".{0,80}") {
            let _ = Context::parse(&header);
        }
    }
}
