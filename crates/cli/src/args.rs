//! What was typed, and nothing more.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

mod examples;

use examples::{
    ANNOTATE_EXAMPLES, CAPTURE_EXAMPLES, DOCTOR_EXAMPLES, EXAMPLES, EXE_EXAMPLES, LS_EXAMPLES,
    MAPS_EXAMPLES, PATH_EXAMPLES, PIDS_EXAMPLES, PS_EXAMPLES, TREE_EXAMPLES,
};

/// Whose process is this? Maps host processes to containers and back.
#[derive(Debug, Parser)]
#[command(name = "whose", version, after_help = EXAMPLES, override_usage = "whose [OPTIONS] TARGET...\n       whose [OPTIONS] COMMAND ...")]
pub(crate) struct Typed {
    /// What to do; without it the targets are answered, or all processes listed.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) ask: Ask,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List processes with their owners.
    #[command(after_help = PS_EXAMPLES)]
    Ps(Ps),
    /// Show processes as a tree, below their owners and their parents.
    #[command(after_help = TREE_EXAMPLES)]
    Tree(TreeArgs),
    /// List containers of every runtime and user.
    #[command(after_help = LS_EXAMPLES)]
    Ls(Ls),
    /// Print just the host PIDs of a target, for scripts: all of them or none.
    #[command(after_help = PIDS_EXAMPLES)]
    Pids(PidsArgs),
    /// Print just the host path of the binary that a process really runs, if it is proven.
    #[command(after_help = EXE_EXAMPLES)]
    Exe(ExeArgs),
    /// Print the host path of every file that a process maps.
    #[command(after_help = MAPS_EXAMPLES)]
    Maps(MapsArgs),
    /// Print the host path of a file in a container, or what containers call a file of the host.
    #[command(after_help = PATH_EXAMPLES)]
    Path(PathArgs),
    /// Add the owner to each line of another tool's output that names a process or a container.
    #[command(after_help = ANNOTATE_EXAMPLES)]
    Annotate(AnnotateArgs),
    /// Save the facts behind answers, to be asked later with --root.
    #[command(after_help = CAPTURE_EXAMPLES)]
    Capture(CaptureArgs),
    /// Tell what can be read here, what can't, and what would fix it.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Answer from this tree instead of /: a saved one, or a host's that is mounted here.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) root: Option<PathBuf>,
    /// Give up after this many seconds; what is missing by then is said.
    #[arg(long, value_name = "SECONDS", global = true, value_parser = seconds)]
    pub(crate) timeout: Option<f64>,
    /// How to print.
    #[arg(long, value_name = "FORMAT", global = true)]
    pub(crate) format: Option<Format>,
    /// The same as --format json.
    #[arg(long, global = true, conflicts_with = "format")]
    pub(crate) json: bool,
    /// Columns, separated by commas; a list that begins with + adds to the usual ones.
    #[arg(short = 'o', long = "columns", value_name = "COLUMNS", global = true)]
    pub(crate) columns: Vec<String>,
    /// No header line.
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
    /// Do not cut lines at the terminal's edge.
    #[arg(long, global = true)]
    pub(crate) no_trunc: bool,
    /// Plain numbers in tables: bytes and seconds.
    #[arg(long, global = true)]
    pub(crate) raw: bool,
    /// Colour; auto is only on a terminal and without NO_COLOR.
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    pub(crate) color: When,
    /// Exit with 3 when anything at all could not be read.
    #[arg(long, global = true)]
    pub(crate) strict: bool,
    /// Ask the engines' running daemons too, whatever their files tell. An ordinary user, who may not read
    /// those files, asks them without it.
    #[arg(long, global = true)]
    pub(crate) daemon: bool,
    /// How all processes are read: by /proc, by the kernel's task iterator (bpf), or by the faster of
    /// the two, which give the same; also WHOSE_SOURCE, and source in /etc/whose/config.toml.
    #[arg(long, value_name = "SOURCE", global = true)]
    pub(crate) source: Option<Source>,
}

/// How all processes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// The faster of the two.
    Auto,
    /// The files of /proc.
    Proc,
    /// The kernel's task iterator.
    Bpf,
}

/// Options for bare targets.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// A PID, a container's or pod's name or id, pod:NS/POD, a path, CONTAINER:/PATH, layer:ID, volume:NAME; -
    /// reads targets from stdin, a line each.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    /// Every piece of evidence on a line of its own.
    #[arg(long)]
    pub(crate) why: bool,
    /// Print only the container's full id.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only say by the exit status whether the target is in a container: 0 yes, 5 no, 3 not known.
    #[arg(long)]
    pub(crate) in_container: bool,
}

/// Options of ps.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Only processes of these PIDs and containers.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    /// Only processes of these users (effective), names or numbers.
    #[arg(short, long, value_name = "USER", value_delimiter = ',')]
    pub(crate) user: Vec<String>,
    /// Only processes of this container.
    #[arg(short, long, value_name = "CONTAINER")]
    pub(crate) container: Vec<OsString>,
    /// Only the host's own processes: units, sessions and the rest.
    #[arg(long, conflicts_with = "containers_only")]
    pub(crate) host_only: bool,
    /// Only processes in containers.
    #[arg(long)]
    pub(crate) containers_only: bool,
    /// Order, such as -rss,pid; a minus puts the largest first.
    #[arg(long, value_name = "COLUMNS", allow_hyphen_values = true, value_delimiter = ',')]
    pub(crate) sort: Vec<String>,
    /// Print only PIDs.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Kernel threads too.
    #[arg(short = 'k', long)]
    pub(crate) kernel: bool,
    /// Accepted for ps's sake: every process is listed anyway.
    #[arg(short = 'e', short_alias = 'A', hide = true, action = clap::ArgAction::Count)]
    pub(crate) every: u8,
}

/// Options of tree.
#[derive(Debug, Args)]
pub(crate) struct TreeArgs {
    /// Those of ps.
    #[command(flatten)]
    pub(crate) list: Ps,
    /// Draw with ASCII only; the default where the locale is not UTF-8.
    #[arg(long)]
    pub(crate) ascii: bool,
}

/// Options of ls.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only these containers, by name, id or a PID in them.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    /// Those that do not run too, and sandboxes and applications.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Order, such as -processes,chain; a minus puts the largest first.
    #[arg(long, value_name = "COLUMNS", allow_hyphen_values = true, value_delimiter = ',')]
    pub(crate) sort: Vec<String>,
    /// Print only full ids.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// What containers and engines take on the disks, the largest first: those that do not run too.
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) disk: bool,
}

/// Options of pids.
#[derive(Debug, Args)]
pub(crate) struct PidsArgs {
    /// Containers or PIDs.
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<OsString>,
    /// Between PIDs; one a line without it.
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) delimiter: Option<OsString>,
    /// Leave out containers nested in it.
    #[arg(long)]
    pub(crate) direct: bool,
    /// Also scan for processes in its namespaces but outside its cgroup.
    #[arg(long)]
    pub(crate) strays: bool,
    /// Print what there is, even if it is not complete.
    #[arg(long)]
    pub(crate) partial: bool,
}

/// Options of exe.
#[derive(Debug, Args)]
pub(crate) struct ExeArgs {
    /// PIDs or containers.
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<OsString>,
    /// End each path with a NUL byte instead of a newline.
    #[arg(short = '0', long)]
    pub(crate) null: bool,
    /// SHA-256 and build id of the file that runs, before its path; - for what it has not.
    #[arg(long)]
    pub(crate) hash: bool,
}

/// Options of path.
#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    /// CONTAINER:/PATH or PID:/PATH for the file on the host; a path of the host for those in containers.
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<OsString>,
    /// End each line with a NUL byte instead of a newline.
    #[arg(short = '0', long)]
    pub(crate) null: bool,
}

/// Options of maps.
#[derive(Debug, Args)]
pub(crate) struct MapsArgs {
    /// A PID or a container.
    #[arg(value_name = "TARGET")]
    pub(crate) target: OsString,
    /// Print only the paths, each once.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// With -q: end each path with a NUL byte instead of a newline.
    #[arg(short = '0', long, requires = "quiet")]
    pub(crate) null: bool,
}

/// Options of annotate.
#[derive(Debug, Args)]
pub(crate) struct AnnotateArgs {
    /// Files to read, one after another; - and none is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A command whose output is read; on a terminal of its own if ours is one.
    #[arg(value_name = "COMMAND", last = true, conflicts_with = "files")]
    pub(crate) command: Vec<OsString>,
    /// Where the owner goes: a column in tables and behind other lines, behind or before every line,
    /// in the place of the PID, or an object a line.
    #[arg(long, value_name = "STYLE", default_value = "column", value_parser = STYLES)]
    pub(crate) style: String,
    /// What is told of an owner: fields of whose ps, separated by commas.
    #[arg(long, value_name = "FIELDS", default_value = "owner")]
    pub(crate) with: String,
    /// The column that holds PIDs, by its number or its title; nothing else is one then.
    #[arg(long, value_name = "N|TITLE", conflicts_with = "regex")]
    pub(crate) pid_column: Option<OsString>,
    /// What names a process: its group pid, or else its first one, is the PID; nothing else is one then.
    #[arg(long, value_name = "REGEX")]
    pub(crate) regex: Option<String>,
    /// With -- COMMAND: read its standard error too, and write it to standard output.
    #[arg(long, requires = "command")]
    pub(crate) stderr: bool,
}

/// The styles there are.
const STYLES: [&str; 5] = ["column", "suffix", "prefix", "replace", "json"];

/// Options of capture.
#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// Where to: a directory that is not there yet, or empty.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Only what answers about these; without any the whole host.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
}

/// Options before a subcommand that take a value.
const TAKE_VALUES: [&str; 7] =
    ["--root", "--timeout", "--format", "-o", "--columns", "--color", "--source"];

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One document.
    Json,
    /// A document a line.
    Ndjson,
    /// Comma separated values.
    Csv,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, without NO_COLOR.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let sensible = number.is_finite() && number > 0.0 && number <= 86_400.0;
    if sensible { Ok(number) } else { Err("must be more than 0 and at most 86400".into()) }
}

/// Reads the command line. The first word that is no option decides whether a subcommand is meant;
/// after `--` everything is a target, so that a container may be called `ps`.
///
/// # Errors
/// clap's: usage, help and version.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Typed, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    // To define what is not asked for takes longer than an answer. Only mistakes and help show it.
    match first_word(&args).filter(|_| !asks_for_help(&args)) {
        Some(word) if word == "help" => {}
        Some(word) if Command::has_subcommand(&word) => {
            let matches = alone(&word).and_then(|one| one.try_get_matches_from(&args).ok());
            if let Some(matches) = matches {
                return Typed::from_arg_matches(&matches);
            }
        }
        _ if asks_for_help(&args) => {}
        _ => {
            // Bare targets: without subcommands none of them can be taken for one.
            let matches = bare_command().try_get_matches_from(args)?;
            let common = Common::from_arg_matches(&matches)?;
            return Ok(Typed { command: None, common, ask: Ask::from_arg_matches(&matches)? });
        }
    }
    Typed::from_arg_matches(&command().try_get_matches_from(args)?)
}

/// The definition with this subcommand alone; `None` where that is not worth it.
fn alone(name: &str) -> Option<clap::Command> {
    let own = match name {
        "ps" => Ps::augment_args(clap::Command::new("ps")),
        "ls" => Ls::augment_args(clap::Command::new("ls")),
        "pids" => PidsArgs::augment_args(clap::Command::new("pids")),
        "exe" => ExeArgs::augment_args(clap::Command::new("exe")),
        "annotate" => AnnotateArgs::augment_args(clap::Command::new("annotate")),
        _ => return None,
    };
    Some(bare_command().subcommand(own))
}

/// The whole definition; the columns in ps's help come from the registry.
fn command() -> clap::Command {
    let columns: Vec<String> = whose_fields::FIELDS
        .iter()
        .map(|f| {
            let aliases = if f.aliases.is_empty() {
                String::new()
            } else {
                format!(" ({})", f.aliases.join(", "))
            };
            format!("  {:<12} {}{aliases}", f.name, f.doc)
        })
        .collect();
    let help = |examples| format!("{examples}\n\nColumns:\n{}", columns.join("\n"));
    Typed::command()
        .mut_subcommand("ps", |ps| ps.after_long_help(help(PS_EXAMPLES)))
        .mut_subcommand("ls", |ls| ls.after_long_help(help(LS_EXAMPLES)))
        .mut_subcommand("tree", |tree| {
            let what =
                "Only the processes of these containers, and these PIDs with their descendants";
            tree.after_long_help(help(TREE_EXAMPLES)).mut_arg("targets", |arg| arg.help(what))
        })
}

fn bare_command() -> clap::Command {
    let command = clap::Command::new("whose")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage("whose [OPTIONS] TARGET...\n       whose [OPTIONS] COMMAND ...");
    Ask::augment_args(Common::augment_args(command))
}

fn asks_for_help(args: &[OsString]) -> bool {
    let before = args.iter().skip(1).take_while(|a| *a != "--");
    before.into_iter().any(|a| a == "--help" || a == "-h")
}

/// The first word that is no option, if none before it says that all are targets.
fn first_word(args: &[OsString]) -> Option<String> {
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        if text == "--" || text == "-" {
            return None;
        }
        if !text.starts_with('-') {
            return Some(text.into_owned());
        }
        if TAKE_VALUES.contains(&&*text) {
            rest.next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::{CommandFactory, FromArgMatches, Subcommand};

    use super::{Command, TAKE_VALUES, Typed, alone, command, parse};

    fn typed(line: &str) -> Typed {
        parse(line.split_whitespace().map(OsString::from)).unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn options_that_take_values_are_known() {
        let whole = Typed::command();
        let taking: Vec<_> =
            whole.get_arguments().filter(|a| a.get_action().takes_values()).collect();
        let long = taking.iter().filter_map(|a| a.get_long()).map(|l| format!("--{l}"));
        let short = taking.iter().filter_map(|a| a.get_short()).map(|s| format!("-{s}"));
        let mut known: Vec<String> = TAKE_VALUES.map(str::to_owned).to_vec();
        let mut taking: Vec<String> = long.chain(short).collect();
        known.sort();
        taking.sort();
        assert_eq!(known, taking);
    }

    #[test]
    fn a_subcommand_alone_means_the_same() {
        for line in [
            "whose ps",
            "whose ps web -o +image --sort -rss,pid -u a,b --json -k -e -A",
            "whose --root /x --timeout 3 ps -c web --host-only --no-headers",
            "whose ls -a --filter x web --sort -processes --raw",
            "whose ls -q 1 2 --format csv --daemon",
            "whose ls --disk -a web --sort -disk_log --timeout 9",
            "whose ls --disk -q",
            "whose --root /x --daemon pids web",
            "whose --strict pids -d, web --direct --partial",
            "whose pids --strays -- ps",
            "whose pids",
            "whose --color never exe -0 --hash 4761 web",
            "whose exe --json --format csv 1",
            "whose exe -q 1",
            "whose annotate --style suffix --with owner,image a b",
            "whose annotate --regex x(y) --stderr -- ps -q aux",
            "whose annotate --stderr",
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let name = words.iter().find(|w| Command::has_subcommand(w.to_str().unwrap()));
            let one = alone(name.unwrap().to_str().unwrap()).unwrap();
            let told = |whole: clap::Command| {
                let matches = whole.try_get_matches_from(&words).ok()?;
                Some(format!("{:?}", Typed::from_arg_matches(&matches).unwrap()))
            };
            assert_eq!(told(one), told(command()), "{line}");
        }
        for name in Typed::command().get_subcommands().map(|c| c.get_name()) {
            assert!(Command::has_subcommand(name), "{name}");
        }
    }

    #[test]
    fn the_first_word_decides() {
        assert!(matches!(typed("whose ps web").command, Some(Command::Ps(_))));
        assert!(matches!(typed("whose --root /x ps").command, Some(Command::Ps(_))));
        assert!(matches!(typed("whose --json pids web").command, Some(Command::Pids(_))));
        assert!(typed("whose web ps").command.is_none());
        assert_eq!(typed("whose web ps").ask.targets, ["web", "ps"]);
        assert_eq!(typed("whose -- ps").ask.targets, ["ps"]);
        assert_eq!(typed("whose -- -rf").ask.targets, ["-rf"]);
        assert_eq!(typed("whose --root ps").common.root.unwrap().to_str(), Some("ps"));
        assert!(typed("whose").command.is_none());
    }

    #[test]
    fn options_stand_anywhere() {
        let ps = typed("whose ps --sort -rss -o +image --json");
        assert!(ps.common.json);
        assert_eq!(ps.common.columns, ["+image"]);
        let Some(Command::Ps(args)) = ps.command else { panic!("no ps") };
        assert_eq!(args.sort, ["-rss"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "whose -1",
            "whose --nope",
            "whose ps --timeout 0",
            "whose pids",
            "whose --timeout x 1",
        ] {
            assert!(parse(line.split_whitespace().map(OsString::from)).is_err(), "{line}");
        }
    }
}
