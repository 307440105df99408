//! `hermod manual`: the page hermod(1) out of what the command line says of itself, all commands on one page; and
//! `hermod completions`, by which a shell knows them.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;

/// What no option says.
const MORE: &str = r#".SH FILES
.TP
\fI/etc/hermod/hermod.toml\fR
The configuration of the service, in TOML. \fI/usr/share/doc/hermod/hermod.toml\fR shows every key.
.TP
\fI/var/lib/hermod\fR
Its data.
.SH ENVIRONMENT
.TP
\fBHERMOD__SECTION__KEY\fR
Any key of the configuration, over the file's, as in \fBHERMOD__LIMITS__CONNECTIONS_MAX=5000\fR.
.SH SIGNALS
.TP
\fBSIGTERM\fR, \fBSIGINT\fR
Stop in order: listeners close, clients are told, logs are flushed. A second one ends the process at once.
.TP
\fBSIGHUP\fR
Read the configuration and the files it names again. What is wrong changes nothing; what needs a restart is named.
.SH "EXIT STATUS"
.TP
\fB0\fR
All went well.
.TP
\fB1\fR
It did not; standard error says why.
.TP
\fB2\fR
The command line cannot be understood; of \fBhermod doctor\fR: the machine cannot carry what is wanted.
.TP
\fB70\fR
A core has panicked.
.TP
\fB74\fR
A log could not be written.
.SH "SEE ALSO"
\fBmosquitto_pub\fR(1), \fBmosquitto_sub\fR(1), \fBsystemctl\fR(1)
"#;

/// Completing commands.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Whose.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    /// Prints what the shell has to read.
    pub(crate) fn run(&self) -> ExitCode {
        clap_complete::generate(self.shell, &mut Cli::command(), "hermod", &mut io::stdout());
        ExitCode::SUCCESS
    }
}

/// Prints the page.
pub(crate) fn run() -> io::Result<ExitCode> {
    io::stdout().write_all(page()?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The page: the same for the same command line, whatever the day and the machine.
fn page() -> io::Result<String> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let source = concat!("hermod ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title("HERMOD").section("1").source(source).manual("Hermod");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    commands(&command, &mut page)?;
    let page = String::from_utf8(page).map_err(io::Error::other)?;
    Ok(page + MORE)
}

/// Each command below this one that does something, with all that its help says.
fn commands(parent: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    for command in parent.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "help") {
        if command.has_subcommands() {
            commands(command, page)?;
            continue;
        }
        let name = command.get_bin_name().unwrap_or(command.get_name());
        writeln!(page, ".SS \"{name}\"")?;
        let man = Man::new(command.clone());
        let mut sections = Vec::new();
        man.render_synopsis_section(&mut sections)?;
        man.render_description_section(&mut sections)?;
        man.render_options_section(&mut sections)?;
        // What are sections on a page of one command are paragraphs here.
        for line in String::from_utf8_lossy(&sections).lines() {
            let line = if line.starts_with(".SH ") { ".PP" } else { line };
            writeln!(page, "{line}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is read: without the escapes of roff.
    fn text() -> String {
        let page = page().unwrap().replace("\\-", "-").replace("\\&", "");
        ["\\fB", "\\fI", "\\fR"].into_iter().fold(page, |page, escape| page.replace(escape, ""))
    }

    fn all<'a>(command: &'a Command, found: &mut Vec<&'a Command>) {
        found.push(command);
        let shown = |it: &&Command| !it.is_hide_set() && it.get_name() != "help";
        command.get_subcommands().filter(shown).for_each(|command| all(command, found));
    }

    /// Every command that does something, every flag and every argument stands on the page.
    #[test]
    fn the_page_names_everything() {
        let (mut command, page) = (Cli::command(), text());
        command.build();
        let mut found = Vec::new();
        all(&command, &mut found);
        assert!(found.len() > 20, "{} commands", found.len());
        for command in found {
            let name = command.get_bin_name().unwrap_or(command.get_name());
            let start = if command.has_subcommands() { "" } else { &format!(".SS \"{name}\"\n") };
            let (_, own) = page.split_once(start).unwrap_or_else(|| panic!("{name}"));
            let own = own.split("\n.SS ").next().expect("one at least");
            for argument in command.get_arguments().filter(|it| !it.is_hide_set()) {
                let flag = argument.get_long().map(|long| format!("--{long}"));
                let wanted = flag.unwrap_or_else(|| argument.get_value_names().unwrap()[0].to_string());
                assert!(own.contains(&wanted), "{name} {wanted}");
            }
        }
    }

    /// The page that is shipped is the one of this command line: `hermod manual > conf/hermod.1` makes it.
    #[test]
    fn the_page_that_is_shipped_is_this_one() {
        let shipped = include_str!("../../../conf/hermod.1");
        assert!(shipped == page().unwrap(), "`hermod manual > conf/hermod.1` brings it up to date");
    }

    /// A shell hears of every command.
    #[test]
    fn shells_know_the_commands() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hermod", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(
                ["clear-retained", "test-config", "passwd"].iter().all(|word| script.contains(word)),
                "{shell}"
            );
        }
    }
}
