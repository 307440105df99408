//! The process and its configuration: what it refuses, what lies over what, and what SIGHUP changes while
//! clients are there.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output};

use support::{Broker, DEADLINE};

/// A file of this text, in a directory of the test's own; gone at its end.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let path = std::env::temp_dir().join(format!("hermod-{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text).expect("a directory for temporary files");
        File(path)
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("it was written before");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn test_config(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hermod"))
        .arg("--test-config")
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it writes UTF-8")
}

/// Connects with a clean session, and takes CONNACK [MQTT 3.1.1, section 3.1].
fn connect(broker: &Broker, name: u8) -> TcpStream {
    let mut stream = TcpStream::connect(broker.address()).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, name]).unwrap();
    let mut packet = [0; 4];
    stream.read_exact(&mut packet).expect("CONNACK");
    assert_eq!(packet, [0x20, 2, 0, 0]);
    stream
}

/// `--test-config` says all that is wrong and exits with 1, or that nothing is and exits with 0.
#[test]
fn configuration_is_tested() {
    let file = File::new("tested", "[limits]\nconnections_max = 0\nclose_linger = 5\n");
    let output = test_config(&["--config", file.path()], &[]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(errors.contains(&format!("{}:2: limits.connections_max: must be", file.path())), "{errors}");
    assert!(errors.contains(":3: limits.close_linger: there is no such key; did you mean close_linger_ms?"));
    file.write("[limits\n");
    let output = test_config(&["--config", file.path()], &[]);
    assert!(text(&output.stderr).contains(&format!("{}:1: ", file.path())), "{}", text(&output.stderr));
    file.write("");
    let output = test_config(&["--config", file.path()], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // What keeps a node from starting, does so here.
    for (wrong, says) in [
        ("[[listeners]]\nbind = \"tcp://0.0.0.0:1883\"\n", "auth.allow_anonymous"),
        ("[admin]\nbind = \"0.0.0.0:9883\"\n", "admin.token_file"),
        ("[admin]\ntoken_file = \"/nowhere/token\"\n", "/nowhere/token"),
        ("[events]\nwebhook_url = \"https://localhost/\"\nwebhook_ca = \"/nowhere/ca\"\n", "/nowhere/ca"),
        ("[node]\ncores = \"60000\"\n", "60000"),
    ] {
        file.write(wrong);
        let output = test_config(&["--config", file.path()], &[]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(says), "{wrong}: {said}");
    }
    // Files that it names are opened: what is none is named with its listener and key.
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("another");
    let (certificate, private) =
        (File::new("cert", &key.cert.pem()), File::new("key", &other.signing_key.serialize_pem()));
    let tls = |private: &str| {
        let path = certificate.path();
        format!("[[listeners]]\nbind = 'tls://[::1]:0'\ntls_cert = '{path}'\ntls_key = '{private}'\n")
    };
    for private in [private.path(), certificate.path(), "/nowhere/key.pem"] {
        file.write(&tls(private));
        let output = test_config(&["--config", file.path()], &[]);
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains("listeners.0.tls_key") && said.contains(private),
            "{said}"
        );
    }
    // What cannot be an address is wrong wherever it is tested; a name has to lead somewhere here, as at a start.
    file.write("[[listeners]]\nbind = 'tcp://256.1.1.1:1'\n");
    let output = test_config(&["--config", file.path()], &[]);
    let expected = format!("{}:2: listeners.0.bind: must be", file.path());
    assert!(!output.status.success() && text(&output.stderr).contains(&expected), "{}", text(&output.stderr));
    file.write("[[listeners]]\n[[listeners]]\nbind = 'tcp://nobody.invalid:1'\n");
    let output = test_config(&["--config", file.path()], &[]);
    let expected = "listeners.1.bind: cannot listen on tcp://nobody.invalid:1: ";
    assert!(!output.status.success() && text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    file.write("[auth]\npassword_file = '/nowhere/passwords'\n");
    let output = test_config(&["--config", file.path()], &[]);
    assert!(!output.status.success() && text(&output.stderr).contains("auth.password_file"));
    let output = test_config(&["--config", "/nowhere/hermod.toml"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nowhere/hermod.toml: "), "{}", text(&output.stderr));
}

/// A variable of the environment counts like a line of the file, and over it.
#[test]
fn environment_counts() {
    let file = File::new("environment", "[limits]\nconnections_max = 'many'\n");
    let output = test_config(&["--config", file.path()], &[("HERMOD__LIMITS__CONNECTIONS_MAX", "5")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = test_config(&[], &[("HERMOD__LIMITS__CONNECTION_MAX", "5")]);
    let expected = "HERMOD__LIMITS__CONNECTION_MAX: limits.connection_max: there is no such key; \
                    did you mean connections_max?";
    assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
}

/// A setting that refuses a client is named in the log, so that nobody has to guess which it was.
#[test]
fn settings_that_bite_are_named() {
    let file = File::new("bite", "[log]\nfilter = 'debug'\n[tenants.default]\nmqtt_31 = false\n");
    let mut broker = Broker::start(&["--config", file.path()]);
    let mut stream = TcpStream::connect(broker.address()).expect("somebody listens");
    stream.write_all(&[0x10, 15, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 2, 0, 0, 0, 1, b'a']).unwrap();
    let mut packet = Vec::new();
    stream.read_to_end(&mut packet).expect("CONNACK and the end");
    assert_eq!(packet, [0x20, 2, 0, 1]);
    broker.wait_for_log("tenant.mqtt_31");
    broker.stop();
}

/// SIGHUP reads the file again: what is wrong changes nothing, the log's level changes at once, the limits of
/// running cores do, and what waits for a restart is named. Clients stay.
#[test]
fn sighup_loads_again() {
    let file = File::new("reload", "[log]\nfilter = 'info'\n");
    let mut broker = Broker::start(&["--config", file.path(), "--cores", "0"]);
    let mut first = connect(&broker, b'a');
    file.write("[log]\nfilter = 'debug'\n[limits]\nconnections_max = 0\n");
    broker.signal("HUP");
    broker.wait_for_log(":4: limits.connections_max: must be a whole number from 1 to 4294967295, not 0");
    broker.wait_for_log("the configuration stays as it was");
    file.write("[log]\nfilter = 'debug'\n[limits]\nconnections_max = 2\n[node]\nio = 'epoll'\n");
    broker.signal("HUP");
    broker.wait_for_log("limits.connections_max is 2 now");
    broker.wait_for_log("node.io is \"epoll\" in the configuration: a restart is needed for it");
    broker.wait_for_log("with 3 changes");
    let second = connect(&broker, b'b');
    broker.wait_for_log("greeted");
    let mut third = TcpStream::connect(broker.address()).expect("somebody listens");
    assert_eq!(third.read(&mut [0; 1]).ok(), Some(0), "closed: there are 2");
    first.write_all(&[0xC0, 0]).unwrap();
    first.read_exact(&mut [0; 2]).expect("PINGRESP");
    drop(second);
    broker.stop();
}
