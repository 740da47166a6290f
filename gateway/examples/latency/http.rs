//! As much of HTTP/1.1 as both sides need: a head, a body with a length or in chunks, connections that are kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// Ends a hang; no answer takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    line: Vec<u8>,
}

/// The first line and those headers that matter here.
#[derive(Debug, Default)]
pub struct Head {
    pub first: String,
    pub length: Option<usize>,
    pub chunked: bool,
    /// `x-reprise-cache`.
    pub cache: String,
}

impl Connection {
    pub fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("no connection to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::new(stream)
    }

    pub fn new(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        let reader = BufReader::with_capacity(16 << 10, stream.try_clone()?);
        Ok(Self { stream, reader, line: Vec::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// `None` if the other side has closed the connection.
    pub fn head(&mut self) -> anyhow::Result<Option<Head>> {
        if !self.read_line()? {
            return Ok(None);
        }
        let mut head = Head { first: self.text(), ..Head::default() };
        while self.read_line()? && !self.line.is_empty() {
            let text = self.text();
            let Some((name, value)) = text.split_once(':') else { continue };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = Some(value.parse()?),
                "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
                "x-reprise-cache" => head.cache = value.to_owned(),
                _ => {}
            }
        }
        Ok(Some(head))
    }

    /// Hands over the body as it comes.
    pub fn body(&mut self, head: &Head, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let mut piece = Vec::new();
        if !head.chunked {
            piece.resize(head.length.context("a body without a length")?, 0);
            self.reader.read_exact(&mut piece)?;
            take(&piece);
            return Ok(());
        }
        loop {
            ensure!(self.read_line()?, "the connection was closed in a body");
            let size = usize::from_str_radix(self.text().split(';').next().unwrap_or_default().trim(), 16)?;
            piece.resize(size + 2, 0);
            self.reader.read_exact(&mut piece)?;
            if size == 0 {
                return Ok(());
            }
            take(&piece[..size]);
        }
    }

    /// False at the end of what the other side sends. The line has no end of its own.
    fn read_line(&mut self) -> anyhow::Result<bool> {
        self.line.clear();
        let read = self.reader.read_until(b'\n', &mut self.line)?;
        while matches!(self.line.last(), Some(b'\n' | b'\r')) {
            self.line.pop();
        }
        Ok(read > 0)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }
}

/// Where requests go, and what stands in each of them.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Where the chat completions are, as 127.0.0.1:8080.
    #[arg(long)]
    pub address: SocketAddr,
    #[arg(long, default_value = "/v1/chat/completions")]
    pub path: String,
    #[arg(long, default_value = "mock")]
    pub model: String,
    /// More headers, as `name: value`.
    #[arg(long = "header")]
    pub headers: Vec<String>,
}

impl Target {
    /// A chat request. `question` must need no escapes in JSON.
    #[must_use]
    pub fn request(&self, question: &str, deterministic: bool, stream: bool) -> Vec<u8> {
        let sampling = if deterministic { "\"temperature\":0," } else { "" };
        let body = format!(
            "{{\"model\":\"{}\",{sampling}\"max_tokens\":64,\"stream\":{stream},\"messages\":[{{\"role\":\"system\",\
             \"content\":\"Be brief.\"}},{{\"role\":\"user\",\"content\":\"{question}\"}}]}}",
            self.model
        );
        let headers: String = self.headers.iter().map(|header| format!("{header}\r\n")).collect();
        format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            self.path,
            self.address,
            body.len()
        )
        .into_bytes()
    }
}

/// # Errors
/// Any status but 200.
pub fn check(head: Option<Head>) -> anyhow::Result<Head> {
    match head {
        Some(head) if head.first.contains(" 200 ") => Ok(head),
        Some(head) => bail!("answered with {}", head.first),
        None => bail!("the connection was closed"),
    }
}
