//! Bans, ranges and traces on the command line.

use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::commands::Limit;
use super::{Node, Query, RemoteError, Target, show, table};

/// How often a trace is asked for what is new.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(300);

/// Which bans.
#[derive(Debug, Args)]
pub(crate) struct Bans {
    /// Only those with this in the id, name or network.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    target: Target,
}

/// Whom.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Whom {
    /// A client's id.
    #[arg(long, value_name = "CLIENT", conflicts_with_all = ["user", "address"])]
    client: Option<String>,
    /// A user's name.
    #[arg(long, value_name = "USER", conflicts_with = "address")]
    user: Option<String>,
    /// An address, or a network such as 192.0.2.0/24.
    #[arg(long, value_name = "ADDRESS", required_unless_present_any = ["client", "user"])]
    address: Option<String>,
    /// Only of this tenant, not of all.
    #[arg(long, value_name = "TENANT", conflicts_with = "address")]
    tenant: Option<String>,
}

/// Who is to be kept out.
#[derive(Debug, Args)]
pub(crate) struct BanWanted {
    #[command(flatten)]
    whom: Whom,
    /// How long; for good if it is not said.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u32>,
    /// Why, for those who read the list.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    target: Target,
}

/// Who is to be let in again.
#[derive(Debug, Args)]
pub(crate) struct Unban {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    target: Target,
}

/// What is to be followed.
#[derive(Debug, Args)]
pub(crate) struct TraceWanted {
    /// A client's id: what happens to it, to messages for it, and to those from it wherever they go.
    #[arg(long, value_name = "CLIENT", conflicts_with_all = ["topic", "address"])]
    client: Option<String>,
    /// A topic, or a filter for topics.
    #[arg(long, value_name = "TOPIC", conflicts_with = "address")]
    topic: Option<String>,
    /// An address, or a network such as 192.0.2.0/24.
    #[arg(long, value_name = "ADDRESS", required_unless_present_any = ["client", "topic"])]
    address: Option<String>,
    /// Of the client or the topic.
    #[arg(long, value_name = "TENANT", default_value = "default")]
    tenant: String,
    /// How long.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
    /// The most lines of each core.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    lines: u32,
    #[command(flatten)]
    target: Target,
}

impl Bans {
    pub(super) fn list(&self) -> Result<(), RemoteError> {
        let query = Query::default().and("search", self.search.as_ref());
        let columns = [
            ("KIND", "kind"),
            ("NAME", "name"),
            ("TENANT", "tenant"),
            ("UNTIL MS", "until_ms"),
            ("REASON", "reason"),
        ];
        Node::new(&self.target)?.list("/api/v1/bans", &query, self.limit.limit, &columns)
    }
}

impl BanWanted {
    pub(super) fn run(&self) -> Result<(), RemoteError> {
        let Whom { client, user, address, tenant } = &self.whom;
        let body = json!({
            "client": client, "user": user, "address": address, "tenant": tenant,
            "seconds": self.seconds, "reason": self.reason,
        });
        Node::new(&self.target)?.act("POST", "/api/v1/bans", Some(&body))
    }
}

impl Unban {
    pub(super) fn run(&self) -> Result<(), RemoteError> {
        let Whom { client, user, address, tenant } = &self.whom;
        let query = Query::default().and("client", client.as_ref()).and("user", user.as_ref());
        let query = query.and("address", address.as_ref()).and("tenant", tenant.as_ref());
        Node::new(&self.target)?.act("DELETE", &format!("/api/v1/bans{}", query.0), None)
    }
}

/// Shows the ranges of a node.
pub(super) fn ranges(target: &Target) -> Result<(), RemoteError> {
    let node = Node::new(target)?;
    let ranges = node.value("GET", "/api/v1/ranges", None)?;
    let Value::Array(items) = &ranges["items"] else { return Err(RemoteError::Strange(ranges.to_string())) };
    if node.json {
        return show(&format!("{:#}\n", ranges["items"]));
    }
    let columns = [
        ("RANGE", "id"),
        ("SERVICE", "service"),
        ("FROM", "key_from"),
        ("UNTIL", "key_until"),
        ("CORE", "core"),
        ("LOG", "log"),
        ("LEADER", "leader"),
        ("TERM", "term"),
        ("APPLIED", "applied_index"),
        ("CHECKPOINT", "checkpoint"),
        ("ITEMS", "items"),
        ("LOG BYTES", "log_bytes"),
        ("LIVE %", "live_percent"),
        ("STATE", "state"),
    ];
    show(&table::table(&columns, items))
}

impl TraceWanted {
    /// Begins the trace, shows it until it ends, and removes it. Interrupted, it ends by itself.
    pub(super) fn run(&self) -> Result<(), RemoteError> {
        let node = Node::new(&self.target)?;
        let TraceWanted { client, topic, address, tenant, seconds, lines, .. } = self;
        let body = json!({
            "tenant": tenant, "client": client, "topic": topic, "address": address,
            "seconds": seconds, "lines_max": lines,
        });
        let trace = node.value("POST", "/api/v1/traces", Some(&body))?;
        let path = format!("/api/v1/traces/{}", trace["id"]);
        let followed = follow(&node, &path);
        let removed = node.act_silently("DELETE", &path);
        followed.and(removed)
    }
}

fn follow(node: &Node, path: &str) -> Result<(), RemoteError> {
    let mut cursor: Option<String> = None;
    loop {
        let query = Query::default().and("cursor", cursor.as_ref());
        let page = node.value("GET", &format!("{path}/lines{}", query.0), None)?;
        let (Value::Array(items), Some(next)) = (&page["items"], page["cursor"].as_str()) else {
            return Err(RemoteError::Strange(page.to_string()));
        };
        let text = items.iter().map(|item| if node.json { format!("{item}\n") } else { line(item) });
        if !items.is_empty() {
            show(&text.collect::<String>())?;
        }
        cursor = Some(next.to_owned());
        if page["more"] == json!(true) {
            continue;
        }
        if page["running"] != json!(true) {
            return match page["missed"].as_u64() {
                Some(missed) if missed > 0 && !node.json => {
                    show(&format!("… and {missed} lines more: see --lines\n"))
                }
                _ => Ok(()),
            };
        }
        thread::park_timeout(FOLLOW_INTERVAL);
    }
}

/// One step, for people: when, where, who, what, and what else is said of it.
fn line(item: &Value) -> String {
    let at_ms = item["after_us"].as_u64().unwrap_or(0);
    let text = |name: &str| table::cell(&item[name]);
    let mut line = format!(
        "{:>6}.{:06}  core {:<3} {:<22} {:<20}",
        at_ms / 1_000_000,
        at_ms % 1_000_000,
        text("core"),
        text("client_id"),
        text("event")
    );
    let told = ["at_ms", "after_us", "core", "client_id", "event", "tenant", "type", "matched"];
    let fields = item.as_object().into_iter().flatten().filter(|(name, _)| !told.contains(&name.as_str()));
    let matched = item["matched"].as_object().into_iter().flatten();
    for (name, value) in fields.chain(matched) {
        line += &format!(" {name}={}", table::cell(value));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step is one line, whatever is in it.
    #[test]
    fn steps_are_lines() {
        let item = json!({
            "after_us": 1_000_020, "core": 1, "event": "dropped", "client_id": "a\nb", "topic": "t", "qos": 1,
            "reason": "queue_full", "matched": {"local": 2},
        });
        let line = line(&item);
        assert!(line.starts_with("     1.000020  core 1   a\u{FFFD}b "), "{line}");
        assert!(line.contains(" dropped ") && line.ends_with("local=2\n"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
