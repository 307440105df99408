//! How a node is looked at from outside: metrics, health, status, and who may see them.

#[path = "support/http.rs"]
mod http;
mod library {
    pub use rumqttc::*;
}
#[path = "support/client.rs"]
mod client;
mod support;

use std::collections::BTreeMap;
use std::process::Command;

use client::Client;
use rumqttc::{MqttOptions, QoS};
use support::Broker;

fn options(broker: &Broker, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, broker.address().ip().to_string(), broker.address().port());
    options.set_clean_session(true);
    options
}

/// A broker that is administered on a free port, and publishes nothing by itself.
fn start(arguments: &[&str]) -> (Broker, std::net::SocketAddr) {
    let quiet = "export HERMOD__ADMIN__SYS_INTERVAL_SECONDS=0";
    let mut broker = Broker::start_after(quiet, &[&["--admin", "127.0.0.1:0"], arguments].concat());
    let address = http::address(&mut broker);
    (broker, address)
}

/// Samples by name and labels, of a page that is as the format wants it.
fn parse(page: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut family, mut families) = (BTreeMap::new(), ("", ""), Vec::new());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a text");
            assert!(text.ends_with('.'), "{line}");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("TYPE follows HELP");
            let (typed, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(typed, name);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(name.starts_with("hermod_"), "{name}");
            family = (name, kind);
            assert!(!families.contains(&name), "{name} twice");
            families.push(name);
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect("a value");
        let name = sample.split('{').next().expect("a name");
        let plain = family.1 != "histogram" && name == family.0;
        let part = ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(family.0));
        assert!(plain || part, "{name} is not of the family {}", family.0);
        assert!(
            samples.insert(sample.to_owned(), value.parse().expect("a number")).is_none(),
            "{sample} twice"
        );
    }
    assert!(families.len() > 40, "{families:?}");
    samples
}

/// The sum of a family's samples whose labels contain some text.
fn sum(samples: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let of = |sample: &str| sample.split('{').next() == Some(name) && sample.contains(label);
    samples.iter().filter(|(sample, _)| of(sample)).map(|(_, value)| value).sum()
}

/// What clients do is seen, by core and by tenant; and the page is what Prometheus takes.
#[tokio::test]
async fn metrics_tell_what_clients_do() {
    let (broker, admin) = start(&[]);
    let mut subscriber = Client::connect(options(&broker, "s")).await;
    let mut publisher = Client::connect(options(&broker, "p")).await;
    subscriber.subscribe("t/#", QoS::AtLeastOnce).await;
    for number in 0..5 {
        publisher.publish(&format!("t/{number}"), QoS::AtLeastOnce, number == 0, b"12345").await;
        subscriber.message().await;
    }
    publisher.publish("nobody", QoS::AtLeastOnce, false, b"1").await;
    let page = http::get(admin, "/metrics");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/plain; version=0.0.4; charset=utf-8"))
    );
    let samples = parse(&page.body);
    for (name, label, value) in [
        ("hermod_connections", "", 2.0),
        ("hermod_sessions", "state=\"online\"", 2.0),
        ("hermod_sessions", "state=\"away\"", 0.0),
        ("hermod_subscriptions", "", 1.0),
        ("hermod_retained_messages", "", 1.0),
        ("hermod_clients_greeted_total", "", 2.0),
        ("hermod_messages_unmatched_total", "", 1.0),
        ("hermod_messages_total", "direction=\"in\",qos=\"1\"", 6.0),
        ("hermod_messages_total", "direction=\"out\",qos=\"1\"", 5.0),
        ("hermod_messages_total", "qos=\"0\"", 0.0),
        ("hermod_payload_bytes_total", "direction=\"in\",qos=\"1\"", 26.0),
        ("hermod_payload_bytes_total", "direction=\"out\",qos=\"1\"", 25.0),
        ("hermod_tenant_clients", "tenant=\"default\"", 2.0),
        ("hermod_tenant_messages_total", "tenant=\"default\",direction=\"out\",qos=\"1\"", 5.0),
        ("hermod_tenant_retained_messages", "tenant=\"default\"", 1.0),
        ("hermod_messages_dropped_total", "", 0.0),
    ] {
        assert_eq!(sum(&samples, name, label), value, "{name} {label}\n{}", page.body);
    }
    assert!(sum(&samples, "hermod_bytes_total", "direction=\"in\"") > 30.0);
    assert!(
        sum(&samples, "hermod_turn_seconds_count", "")
            >= sum(&samples, "hermod_turn_seconds_bucket", "le=\"0.000001\"")
    );
    assert_eq!(
        sum(&samples, "hermod_turn_seconds_count", ""),
        sum(&samples, "hermod_turn_seconds_bucket", "le=\"+Inf\"")
    );
    let longest = |name| sum(&samples, name, "");
    let (turn, running) =
        (longest("hermod_turn_longest_seconds"), longest("hermod_turn_longest_running_seconds"));
    assert!(running > 0.0 && running <= turn, "{running} of {turn}");
    assert!(sum(&samples, "hermod_resident_bytes", "") > 1e6);
    broker.stop();
}

/// What is written down is seen: each acknowledged message stands in a commit, and commits are counted by duration.
#[tokio::test]
async fn metrics_tell_of_the_logs() {
    let (broker, admin) = start(&["--cores", "0"]);
    let mut publisher = Client::connect(options(&broker, "p")).await;
    for number in 0..7 {
        publisher.publish(&format!("t/{number}"), QoS::AtLeastOnce, true, b"12345").await;
    }
    let samples = parse(&http::get(admin, "/metrics").body);
    let of = |name, label| sum(&samples, name, label);
    assert_eq!(of("hermod_range_commands_total", "service=\"retain\""), 7.0);
    let entries = of("hermod_range_entries_total", "");
    assert!((1.0..=9.0).contains(&entries), "{entries}");
    let commits = of("hermod_log_commit_seconds_count", "");
    assert!(commits >= 1.0 && commits <= of("hermod_log_records_total", ""), "{commits}");
    assert_eq!(commits, of("hermod_log_commit_seconds_bucket", "le=\"+Inf\""));
    assert!(of("hermod_log_written_bytes_total", "") >= 4096.0 * commits);
    assert!(of("hermod_log_live_bytes", "") > 7.0 * 5.0);
    assert!(of("hermod_log_file_bytes", "state=\"tail\"") > 0.0);
    assert_eq!(of("hermod_log_disk_full", ""), 0.0);
    broker.stop();
}

/// A page in a browser of this machine could administer a node without a token, by a name of its own that leads here
/// or by requests from its own origin.
#[test]
fn only_this_machine_administers_without_a_token() {
    let (broker, admin) = start(&["--cores", "0"]);
    let status = |headers: &[(&str, &str)]| http::request(admin, "GET", "/status", headers, "").status;
    let port = admin.port();
    let here = format!("127.0.0.1:{port}");
    for host in [&here, "localhost", &format!("localhost:{port}"), &format!("[::1]:{port}")] {
        assert_eq!(status(&[("Host", host)]), 200, "{host}");
    }
    for host in
        ["evil.example", &format!("evil.example:{port}"), "127.0.0.1.evil.example", "localhost.evil", ""]
    {
        assert_eq!(status(&[("Host", host)]), 403, "{host}");
    }
    assert_eq!(status(&[("Host", &here), ("Origin", &format!("http://{here}"))]), 200);
    for origin in ["http://evil.example", "null", "https://localhost"] {
        assert_eq!(status(&[("Host", &here), ("Origin", origin)]), 403, "{origin}");
    }
    let refused = http::request(admin, "GET", "/metrics", &[("Host", "evil.example")], "");
    assert_eq!(refused.json()["error"]["code"].as_str(), Some("not_from_here"));
    broker.stop();
}

/// Beyond `metrics_tenants_max` tenants are added up under one name.
#[tokio::test]
async fn tenants_beyond_the_limit_are_added_up() {
    let tenants: String = ["a", "b", "c"].map(|name| format!("[tenants.{name}]\n")).concat();
    let listener = "[[listeners]]\nbind = \"tcp://127.0.0.1:0\"\ntenant_from_username = true\n";
    let file = std::env::temp_dir().join(format!("hermod-sight-{}.toml", std::process::id()));
    let admin = "[admin]\nmetrics_tenants_max = 1\nsys_interval_seconds = 0\n";
    std::fs::write(&file, format!("{listener}{admin}{tenants}")).unwrap();
    let mut broker = Broker::start_as_configured(file.to_str().unwrap(), &["--admin", "127.0.0.1:0"]);
    let admin = http::address(&mut broker);
    let mut clients = Vec::new();
    for tenant in ["a", "b", "c"] {
        let mut options = options(&broker, tenant);
        options.set_credentials(format!("{tenant}/u"), "");
        clients.push(Client::connect(options).await);
    }
    let samples = parse(&http::get(admin, "/metrics").body);
    let clients_of = |tenant| samples.get(&format!("hermod_tenant_clients{{tenant=\"{tenant}\"}}")).copied();
    assert_eq!((clients_of("a"), clients_of("b"), clients_of("(others)")), (Some(1.0), None, Some(2.0)));
    std::fs::remove_file(file).unwrap();
    broker.stop();
}

/// A node is healthy while its cores answer, and says what it is; what is not there is an error of one shape.
#[test]
fn health_status_and_errors() {
    let (broker, admin) = start(&["--cores", "0"]);
    for path in ["/healthz", "/readyz"] {
        let response = http::get(admin, path);
        assert_eq!((response.status, response.body.as_str()), (200, "ok\n"));
    }
    let status = http::get(admin, "/status").json();
    assert_eq!((&status["version"], &status["stopping"]), (&env!("CARGO_PKG_VERSION").into(), &false.into()));
    assert_eq!(status["listeners"][0], format!("tcp://{}", broker.address()));
    assert_eq!(
        (status["pid"].as_u64(), status["env"].as_str()),
        (Some(u64::from(broker.pid())), Some("hermod"))
    );
    assert_eq!((status["cores"].as_array().map(Vec::len), &status["cores"][0]["cpu"]), (Some(1), &0.into()));
    let missing = http::get(admin, "/no/such");
    assert_eq!((missing.status, missing.json()["error"]["code"].as_str()), (404, Some("no_such_path")));
    let method = http::request(admin, "POST", "/metrics", &[], "");
    assert_eq!((method.status, method.json()["error"]["code"].as_str()), (405, Some("no_such_method")));
    broker.stop();
}

/// Where others can reach it there has to be a token; where there is one it has to be shown, except for health.
#[test]
fn token_is_required() {
    let refused = |arguments: &[&str]| {
        let arguments = [&["--data", "none", "--listen", "tcp://127.0.0.1:0"], arguments].concat();
        let output = Command::new(env!("CARGO_BIN_EXE_hermod")).args(arguments).output().expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let open = refused(&["--admin", "0.0.0.0:0"]);
    assert!(open.contains("admin.token_file") && open.contains("0.0.0.0:0"), "{open}");
    let file = std::env::temp_dir().join(format!("hermod-token-{}", std::process::id()));
    std::fs::write(&file, "short\n").unwrap();
    let path = file.to_str().unwrap();
    assert!(refused(&["--admin-token-file", path]).contains("16 to 4096 printable"));
    std::fs::write(&file, "a-token-of-some-length\n").unwrap();
    let (mut broker, admin) = start(&["--admin-token-file", path, "--cores", "0"]);
    let with =
        |header: &str| http::request(admin, "GET", "/metrics", &[("Authorization", header)], "").status;
    assert_eq!(with("Bearer a-token-of-some-length"), 200);
    assert_eq!(with("bearer a-token-of-some-length"), 200);
    for wrong in ["Bearer a-token-of-some-lengt", "Bearer ", "Basic a-token-of-some-length", "x"] {
        assert_eq!(with(wrong), 401, "{wrong}");
    }
    let none = http::get(admin, "/status");
    assert_eq!((none.status, none.json()["error"]["code"].as_str()), (401, Some("token_required")));
    assert_eq!(none.header("www-authenticate"), Some("Bearer"));
    assert_eq!((http::get(admin, "/healthz").status, http::get(admin, "/readyz").status), (200, 200));
    // Another token is good as soon as the file is read again, and the former is not; a weak one changes nothing.
    for (text, heard) in
        [("weak\n", "stays as it was"), ("another-token-of-some-length\n", "is loaded again")]
    {
        std::fs::write(&file, text).unwrap();
        broker.signal("HUP");
        broker.wait_for_log(heard);
        let changed = text != "weak\n";
        assert_eq!(with("Bearer a-token-of-some-length"), if changed { 401 } else { 200 });
        assert_eq!(with("Bearer another-token-of-some-length"), if changed { 200 } else { 401 });
    }
    std::fs::remove_file(file).unwrap();
    broker.stop();
}

/// The page and its files are there, need no token, and load nothing from anywhere else.
#[test]
fn page_is_there() {
    let (broker, admin) = start(&["--cores", "0"]);
    let page = http::get(admin, "/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(
        page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'"))
    );
    let named: Vec<_> =
        ["src=\"", "href=\"/"].into_iter().flat_map(|name| page.body.split(name).skip(1)).collect();
    let paths: Vec<_> = named.iter().filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
    for path in paths {
        let file = http::get(admin, &format!("/{}", path.trim_start_matches('/')));
        assert_eq!(file.status, 200, "{path}");
        assert!(!file.body.is_empty() && !file.body.contains("https://"), "{path}");
    }
    broker.stop();
}

/// An address that was asked for and is taken is refused; without one asked for the broker goes on.
#[test]
fn taken_address_is_named() {
    let (broker, admin) = start(&["--cores", "0"]);
    let output = Command::new(env!("CARGO_BIN_EXE_hermod"))
        .args(["--data", "none", "--listen", "tcp://127.0.0.1:0", "--admin", &admin.to_string()])
        .output()
        .expect("it starts");
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains(&format!("admin.bind: cannot listen on {admin}")), "{message}");
    broker.stop();
}

/// `$SYS/broker/…` is there for whoever subscribes, as in Mosquitto, and follows what happens; other tenants' clients
/// see none of it.
#[tokio::test]
async fn sys_topics_tell_of_the_broker() {
    let tenants = "export HERMOD__ADMIN__SYS_INTERVAL_SECONDS=1 HERMOD__TENANTS__OTHER__QOS_MAX=1 HERMOD__LISTENERS__0__TENANT_FROM_USERNAME=true HERMOD__LISTENERS__0__BIND=tcp://127.0.0.1:0";
    let broker = Broker::start_after_as_configured(tenants, &["--admin="]);
    let mut client = Client::connect(options(&broker, "a")).await;
    client.subscribe("$SYS/broker/#", QoS::AtMostOnce).await;
    let mut stranger = options(&broker, "b");
    stranger.set_credentials("other/b", "");
    let mut stranger = Client::connect(stranger).await;
    stranger.subscribe("$SYS/#", QoS::AtMostOnce).await;
    client.publish("t", QoS::AtLeastOnce, false, b"12345").await;
    let expected = [
        ("$SYS/broker/version", format!("hermod version {}", env!("CARGO_PKG_VERSION"))),
        ("$SYS/broker/clients/connected", "2".to_owned()),
        ("$SYS/broker/subscriptions/count", "2".to_owned()),
        ("$SYS/broker/publish/bytes/received", "5".to_owned()),
    ];
    let mut seen = BTreeMap::new();
    while !expected.iter().all(|(topic, value)| seen.get(*topic) == Some(value)) {
        let message = client.message().await;
        seen.insert(message.topic.clone(), client::text(&message.payload));
    }
    stranger.publish("mine", QoS::AtLeastOnce, false, b"").await;
    stranger.subscribe("mine", QoS::AtMostOnce).await;
    stranger.publish("mine", QoS::AtLeastOnce, false, b"only this").await;
    assert_eq!(stranger.message().await.topic, "mine");
    broker.stop();
}

/// Names that begin like a metric, each with the labels that stand in braces behind it or in front, after `by`.
fn queried(expression: &str) -> Vec<(String, Vec<String>)> {
    let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("hermod_") {
        let name: String = expression[at..].chars().take_while(|letter| word(*letter)).collect();
        let behind = &expression[at + name.len()..];
        let braces =
            behind.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let matched = braces.split(',').filter_map(|part| part.split(['=', '!']).next());
        let by = expression[..at].rsplit_once("by (").and_then(|(_, rest)| rest.split_once(')'));
        let grouped = by.map_or("", |(inside, _)| inside).split(", ");
        let labels = matched.chain(grouped).filter(|label| !label.is_empty()).map(ToOwned::to_owned);
        found.push((name, labels.collect()));
    }
    found
}

/// Everything that the shipped board asks for is there: names, and the labels that it groups and names by.
#[test]
fn board_asks_for_what_there_is() {
    let (broker, admin) = start(&["--cores", "0"]);
    let samples = parse(&http::get(admin, "/metrics").body);
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf/grafana.json");
    let board: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let panels = board["panels"].as_array().expect("panels");
    let mut asked = 0;
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        let expression = target["expr"].as_str().expect("a query");
        let names = queried(expression);
        assert!(!names.is_empty(), "{expression}");
        for (name, labels) in names {
            asked += 1;
            let sample = samples.keys().find(|sample| sample.split('{').next() == Some(name.as_str()));
            // Of tenants there are none yet.
            let is_tenants =
                name.starts_with("hermod_tenant_") && http::get(admin, "/metrics").body.contains(&name);
            let Some(sample) = sample else {
                assert!(is_tenants, "{name} is not there: {expression}");
                continue;
            };
            for label in labels.iter().filter(|label| *label != "instance") {
                assert!(sample.contains(&format!("{label}=\"")), "{sample} has no {label}: {expression}");
            }
        }
        for label in target["legendFormat"].as_str().unwrap_or_default().split("{{").skip(1) {
            let label = label.split("}}").next().expect("it ends");
            assert!(expression.contains(label), "{label} is not in {expression}");
        }
    }
    assert!(asked > 40, "{asked}");
    broker.stop();
}
