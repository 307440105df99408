//! What a file and the environment say, before anybody knows what it means: names and values, each with the
//! place where it was written, so that whatever is wrong with it can be pointed at.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use broker_core::config::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A line of a file, from 1 on.
    File(Rc<PathBuf>, usize),
    /// An environment variable.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(variable) => f.write_str(variable),
        }
    }
}

/// Something that has a name or a place in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) origin: Origin,
    pub(crate) content: Content,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The value of a key.
    Value(Value),
    /// A section.
    Table(Table),
    /// Several of a kind, as in `[[listeners]]`.
    List(Vec<Entry>),
    /// What no key takes, by its name in TOML.
    Other(&'static str),
}

/// A section: entries by name.
pub(crate) type Table = BTreeMap<String, Entry>;

/// Reads the text of a file.
///
/// # Errors
/// Where the text is no TOML, and why.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Table, (Origin, String)> {
    let file = File { path: Rc::new(path.to_owned()), text };
    match DeTable::parse(text) {
        Ok(table) => Ok(file.table(table.get_ref())),
        Err(error) => {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            Err((file.origin(error.span().unwrap_or_default()), message))
        }
    }
}

struct File<'a> {
    path: Rc<PathBuf>,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        Origin::File(Rc::clone(&self.path), before.iter().filter(|byte| **byte == b'\n').count() + 1)
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            (name.to_string(), self.entry(value))
        };
        table.iter().map(entry).collect()
    }

    fn entry(&self, value: &Spanned<DeValue<'_>>) -> Entry {
        let content = match value.get_ref() {
            DeValue::Boolean(value) => Content::Value(Value::Switch(*value)),
            DeValue::String(value) => Content::Value(Value::Text(value.to_string())),
            DeValue::Integer(value) => match i64::from_str_radix(value.as_str(), value.radix()) {
                Ok(value) => Content::Value(Value::Number(value)),
                Err(_) => Content::Other("a number that is too large"),
            },
            DeValue::Array(list) => Content::List(list.iter().map(|value| self.entry(value)).collect()),
            DeValue::Table(table) => Content::Table(self.table(table)),
            DeValue::Float(_) => Content::Other("a number with a fraction"),
            DeValue::Datetime(_) => Content::Other("a date or time"),
        };
        Entry { origin: self.origin(value.span()), content }
    }
}

/// The prefix of environment variables that are configuration.
const PREFIX: &str = "HERMOD__";

/// Lays what the environment says over `table`: `HERMOD__SECTION__KEY=value`, in any case, where a value that is
/// none in TOML is a text, and a place in a list is written as its number.
pub(crate) fn overlay(
    table: &mut Table,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(), (Origin, String)> {
    let mut variables: Vec<_> = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, text) in variables {
        let path = name[PREFIX.len()..].to_ascii_lowercase();
        let path: Vec<_> = path.split("__").collect();
        let origin = Origin::Environment(name.clone());
        let entry = Entry { origin: origin.clone(), content: read(&text) };
        put(table, &path, entry).map_err(|reason| (origin, reason))?;
    }
    Ok(())
}

fn read(text: &str) -> Content {
    let document = format!("value = {text}");
    let file = File { path: Rc::default(), text: &document };
    let read = DeTable::parse(&document).ok().map(|table| file.table(table.get_ref()));
    let read = read.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    match read {
        Some(Entry { content: content @ Content::Value(_), .. }) => content,
        _ => Content::Value(Value::Text(text.to_owned())),
    }
}

fn put(table: &mut Table, path: &[&str], entry: Entry) -> Result<(), String> {
    let [name, rest @ ..] = path else { return Err("names no key".to_owned()) };
    if rest.is_empty() {
        table.insert((*name).to_owned(), entry);
        return Ok(());
    }
    let list = rest[0].parse::<usize>().ok();
    let empty = || match list {
        Some(_) => Content::List(Vec::new()),
        None => Content::Table(Table::new()),
    };
    let below = table
        .entry((*name).to_owned())
        .or_insert_with(|| Entry { origin: entry.origin.clone(), content: empty() });
    match (&mut below.content, list) {
        (Content::Table(table), _) => put(table, rest, entry),
        (Content::List(list), Some(index)) => put_in_list(list, index, &rest[1..], entry),
        _ => Err(format!("{name} has no keys of that form")),
    }
}

fn put_in_list(list: &mut Vec<Entry>, index: usize, rest: &[&str], entry: Entry) -> Result<(), String> {
    if index > list.len() {
        return Err(format!("there is no number {index}: the next one is {}", list.len()));
    }
    if index == list.len() {
        list.push(Entry { origin: entry.origin.clone(), content: Content::Table(Table::new()) });
    }
    match &mut list[index].content {
        Content::Table(table) => put(table, rest, entry),
        _ => Err(format!("number {index} is no table")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(table: &'a Table, path: &[&str]) -> &'a Entry {
        let entry = &table[path[0]];
        match (&entry.content, path) {
            (Content::Table(below), [_, rest @ ..]) if !rest.is_empty() => value(below, rest),
            (Content::List(list), [_, index, rest @ ..]) => {
                match &list[index.parse::<usize>().unwrap()].content {
                    Content::Table(below) => value(below, rest),
                    _ => entry,
                }
            }
            _ => entry,
        }
    }

    /// Values come with the line they stand in, inside tables and lists of tables.
    #[test]
    fn lines_are_kept() {
        let text = "a = 1\n\n[b]\nc = 'x' # why\nd.e = true\n[[f]]\n[[f]]\ng = 0x10\nh = 1.5\n";
        let table = parse(Path::new("x.toml"), text).unwrap();
        for (path, line, content) in [
            (&["a"][..], 1, Content::Value(Value::Number(1))),
            (&["b", "c"], 4, Content::Value(Value::Text("x".into()))),
            (&["b", "d", "e"], 5, Content::Value(Value::Switch(true))),
            (&["f", "1", "g"], 8, Content::Value(Value::Number(16))),
            (&["f", "1", "h"], 9, Content::Other("a number with a fraction")),
        ] {
            let entry = value(&table, path);
            assert_eq!(entry.origin, Origin::File(Rc::new("x.toml".into()), line), "{path:?}");
            assert_eq!(entry.content, content, "{path:?}");
        }
        let (origin, _) = parse(Path::new("x.toml"), "a = 1\nb =\n").unwrap_err();
        assert_eq!(origin.to_string(), "x.toml:2");
    }

    /// The environment overrides what is there, adds what is not, and takes texts without quotes.
    #[test]
    fn environment_lies_over_the_file() {
        let mut table =
            parse(Path::new("x.toml"), "[limits]\na = 1\nb = 2\n[[listeners]]\nbind = 'x'\n").unwrap();
        let variables = [
            ("HERMOD__LIMITS__A", "7"),
            ("HERMOD__LISTENERS__0__BIND", "tcp://[::1]:1"),
            ("HERMOD__LISTENERS__1__BIND", "'quoted'"),
            ("HERMOD__TENANTS__DEFAULT__RETAIN", "false"),
            ("HERMOD_OTHER", "8"),
            ("PATH", "9"),
        ];
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        overlay(&mut table, variables).unwrap();
        let a = value(&table, &["limits", "a"]);
        assert_eq!(a.origin.to_string(), "HERMOD__LIMITS__A");
        assert_eq!(a.content, Content::Value(Value::Number(7)));
        assert_eq!(value(&table, &["limits", "b"]).content, Content::Value(Value::Number(2)));
        let text = |text: &str| Content::Value(Value::Text(text.to_owned()));
        assert_eq!(value(&table, &["listeners", "0", "bind"]).content, text("tcp://[::1]:1"));
        assert_eq!(value(&table, &["listeners", "1", "bind"]).content, text("quoted"));
        let retain = value(&table, &["tenants", "default", "retain"]);
        assert_eq!(retain.content, Content::Value(Value::Switch(false)));
        assert_eq!(table.len(), 3, "nothing else of the environment is taken");
        let beyond = ("HERMOD__LISTENERS__9__BIND".to_owned(), String::new());
        assert!(overlay(&mut table, [beyond].into_iter()).is_err());
    }
}
