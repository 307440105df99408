//! The commands that ask a running node: each is a request or two to its administration, and a table or JSON of what
//! came back. They hold nothing and open nothing else.

mod backup;
mod commands;
mod http;
mod operations;
mod table;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

pub(crate) use self::commands::Remote;
use self::http::{Client, HttpError};
use self::table::Column;
use crate::storage::backup::BackupError;

/// Which node, and how to show what it says.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// Where the node is administered (`admin.bind`).
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9883", env = "HERMOD__ADMIN__BIND")]
    admin: String,

    /// A file with the token that is to be shown (`admin.token_file`).
    #[arg(long, value_name = "FILE", env = "HERMOD__ADMIN__TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Show what the node says as JSON, not as a table.
    #[arg(long)]
    json: bool,
}

/// Why a command comes to nothing.
#[derive(Debug)]
pub(crate) enum RemoteError {
    /// The node cannot be asked.
    Http(String, HttpError),
    /// The token cannot be read.
    Token(PathBuf, io::Error),
    /// The node says no.
    Refused(String),
    /// What it says is not what was asked for.
    Strange(String),
    /// It cannot be shown.
    Output(io::Error),
    /// There is no backup.
    Backup(BackupError),
}

impl std::error::Error for RemoteError {}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteError::Http(admin, error) => write!(f, "{admin}: {error}"),
            RemoteError::Token(path, error) => write!(f, "--token-file {}: {error}", path.display()),
            RemoteError::Refused(message) => f.write_str(message),
            RemoteError::Strange(body) => write!(f, "this is no answer of a hermod: {body}"),
            RemoteError::Output(error) => error.fmt(f),
            RemoteError::Backup(error) => error.fmt(f),
        }
    }
}

/// A query string, piece by piece.
#[derive(Default)]
struct Query(String);

impl Query {
    fn and(mut self, name: &str, value: Option<impl fmt::Display>) -> Query {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0 += &format!("{name}={}", http::escape(&value.to_string()));
        }
        self
    }
}

/// A node, to be asked.
struct Node {
    client: Client,
    json: bool,
}

impl Node {
    fn new(target: &Target) -> Result<Node, RemoteError> {
        let token = target.token_file.as_ref().map(|path| {
            let read = std::fs::read_to_string(path).map_err(|error| RemoteError::Token(path.clone(), error));
            read.map(|token| token.trim_end().to_owned())
        });
        Ok(Node { client: Client::new(&target.admin, token.transpose()?), json: target.json })
    }

    /// What the node answers, if that is not an error.
    fn text(&self, method: &str, path: &str, body: Option<&Value>) -> Result<String, RemoteError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let (status, body) = self
            .client
            .request(method, path, &body)
            .map_err(|error| RemoteError::Http(self.client.address().to_owned(), error))?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let error = serde_json::from_str::<Value>(&body).ok();
        let message = error.as_ref().and_then(|error| error["error"]["message"].as_str());
        Err(message
            .map_or(RemoteError::Strange(body.clone()), |message| RemoteError::Refused(message.to_owned())))
    }

    fn value(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, RemoteError> {
        let text = self.text(method, path, body)?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|_| RemoteError::Strange(text))
    }

    /// The items of a list, `max` at most, over as many pages as it takes; and whether there are more.
    fn items(&self, path: &str, query: &Query, max: usize) -> Result<(Vec<Value>, bool), RemoteError> {
        let (mut items, mut cursor) = (Vec::new(), None);
        loop {
            let limit = (max - items.len()).min(1000);
            let query = Query(query.0.clone()).and("limit", Some(limit)).and("cursor", cursor);
            let page = self.value("GET", &format!("{path}{}", query.0), None)?;
            let Value::Array(more) = &page["items"] else {
                return Err(RemoteError::Strange(page.to_string()));
            };
            items.extend(more.iter().cloned());
            cursor = page["cursor"].as_str().map(ToOwned::to_owned);
            if cursor.is_none() || items.len() >= max {
                return Ok((items, cursor.is_some()));
            }
        }
    }

    /// Shows a list.
    fn list(&self, path: &str, query: &Query, max: usize, columns: &[Column]) -> Result<(), RemoteError> {
        let (items, more) = self.items(path, query, max.max(1))?;
        if self.json {
            if more {
                // Who reads this reads what is beside it, too.
                let _ = writeln!(io::stderr(), "hermod: {} of more: see --limit", items.len());
            }
            return show(&format!("{:#}\n", Value::Array(items)));
        }
        let mut text = table::table(columns, &items);
        if more {
            text += "… and more: see --limit\n";
        }
        show(&text)
    }

    /// Shows one thing, a line for each of its fields.
    fn one(&self, value: &Value) -> Result<(), RemoteError> {
        if self.json {
            return show(&format!("{value:#}\n"));
        }
        show(&table::fields(value))
    }

    /// Has something done, and says nothing.
    fn act_silently(&self, method: &str, path: &str) -> Result<(), RemoteError> {
        self.value(method, path, None).map(drop)
    }

    /// Has something done, and says to how many if the node does.
    fn act(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(), RemoteError> {
        let value = self.value(method, path, body)?;
        match (&value["count"], self.json) {
            (Value::Null, true) => show("{}\n"),
            (Value::Null, false) => Ok(()),
            (_, true) => show(&format!("{value:#}\n")),
            (count, false) => show(&format!("{count}\n")),
        }
    }
}

fn show(text: &str) -> Result<(), RemoteError> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown.map_err(RemoteError::Output),
    }
}
