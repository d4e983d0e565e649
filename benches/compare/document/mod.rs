//! docs/benchmarks.md and its pictures, all of it made from what was measured. Only the part
//! between two marks is written by hand, and kept.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use crate::latency::Table;
use crate::peers::Kind;
use crate::plan::{BURST, Command, GAP, Plan};
use crate::support::facts::Facts;
use crate::widths::Results;

mod bounds;
mod chart;
mod format;
mod plot;
mod ranks;
mod tables;

/// All that was measured.
pub struct Measured {
    pub plan: Plan,
    pub facts: Facts,
    pub tables: Tables,
    pub widths: Results,
    /// Only what the bounds are about.
    pub widths_of_cat: Results,
    pub duration: Duration,
}

/// One command after another: on loopback, with output on loopback, and at a distance.
pub struct Tables {
    pub spaced: Table,
    pub tight: Table,
    pub cat_spaced: Table,
    pub cat_tight: Table,
    pub distant_spaced: Table,
    pub distant_tight: Table,
}

impl Tables {
    pub fn all(&self) -> [&Table; 6] {
        [
            &self.spaced,
            &self.tight,
            &self.cat_spaced,
            &self.cat_tight,
            &self.distant_spaced,
            &self.distant_tight,
        ]
    }
}

const BEGIN: &str = "<!-- hand-written: begin -->\n";
const END: &str = "<!-- hand-written: end -->\n";
const STUB: &str = "## Where the time goes\n\nTo be written.\n";

/// Writes the document, and the pictures into a directory beside it that has its name. The part
/// that is written by hand is that of `kept`.
pub fn write(measured: &Measured, document: &Path, kept: &Path) -> io::Result<()> {
    let by_hand =
        by_hand(&fs::read_to_string(kept).unwrap_or_default()).unwrap_or_else(|| STUB.to_owned());
    let directory = document.with_extension("");
    fs::create_dir_all(&directory)?;
    for table in measured.tables.all() {
        let rows: Vec<_> = table.rows.iter().map(|row| (row.kind.name(), row.all())).collect();
        let title = format!(
            "{}, {}: milliseconds of each command",
            table.title,
            tables::place(table).replace('`', "")
        );
        fs::write(
            directory.join(table.slug).with_extension("svg"),
            plot::distributions(&title, &rows),
        )?;
    }
    fs::write(directory.join("widths.svg"), chart::rates(&measured.widths))?;
    let pictures = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    fs::write(document, measured.text(pictures, &by_hand))
}

/// What stands between the marks.
fn by_hand(text: &str) -> Option<String> {
    let start = text.find(BEGIN)? + BEGIN.len();
    let end = text[start..].find(END)?;
    Some(text[start..start + end].to_owned())
}

impl Measured {
    fn text(&self, pictures: &str, by_hand: &str) -> String {
        let mut text = String::from("# Benchmarks\n\n");
        text += "<!-- Written by scripts/bench. When it runs again it keeps what stands between the marks \"hand-written\", and nothing \
                 else. -->\n\n";
        if self.plan.quick {
            text += "**This is a quick run, for checking that the benchmark works. It measures too little for its figures to mean much.**\n\n";
        }
        let (nothing, something) = (Command::True.name(), Command::Cat.name());
        _ = writeln!(
            text,
            "What it takes to run {nothing}, and {something}, on a host by sshpool and by others: measured in one run, on one machine with {} that was \
             client and server, on {}. {nothing} does nothing, so all of it is the way there and back. To run it again:\n",
            cores(self.fact("cores")),
            self.fact("date")
        );
        text += "    scripts/bench            # measures, and writes this document\n    \
                 scripts/bench --quick    # checks that it works; writes target/benchmarks.md\n\n";
        text += &bounds::section(self);
        text += &ranks::section(self);
        let Tables { spaced, tight, cat_spaced, cat_tight, distant_spaced, distant_tight } =
            &self.tables;
        for tables in [[spaced, cat_spaced, distant_spaced], [tight, cat_tight, distant_tight]] {
            let first = tables[0];
            _ = writeln!(text, "## {}\n\n{}\n", first.title, tables::introduction(first));
            for table in tables {
                text += &tables::latency(table, self.fact("key exchange"));
                _ = writeln!(text, "![{}]({pictures}/{}.svg)\n", table.title, table.slug);
            }
        }
        text += &tables::widths(&self.widths);
        _ = writeln!(text, "![commands a second by width]({pictures}/widths.svg)\n");
        text += &tables::bursts(&self.widths);
        text += &tables::bursts(&self.widths_of_cat);
        _ = writeln!(text, "{BEGIN}{by_hand}{END}");
        text += &self.compared();
        text += &self.how();
        text += &self.facts.section();
        _ = writeln!(text, "| duration | {} s |", self.duration.as_secs());
        text
    }

    fn fact(&self, name: &str) -> &str {
        self.facts.get(name)
    }

    fn compared(&self) -> String {
        let mut text = String::from("## What was compared\n\n| | |\n|---|---|\n");
        for kind in Kind::ALL {
            _ = writeln!(text, "| {} | {} |", kind.name(), kind.description());
        }
        text.push('\n');
        text += "OpenSSH sets TCP_NODELAY on its connections. What asyncssh does by itself is looked up on its socket, and node-ssh is told to \
                 set it; the last table has both. Without it a library waits for delayed acknowledgements, about 40 ms for each command on \
                 loopback, and a comparison with that would be none.\n\n";
        text
    }

    fn how(&self) -> String {
        let mut text = String::from("## How it was measured\n\n");
        let Tables { spaced, tight, cat_spaced, cat_tight, distant_spaced, distant_tight } =
            &self.tables;
        let count = |of: Kind| {
            let counts = [tight, cat_tight, distant_tight].map(|table| table.commands.of(of));
            format!("{}, {} and {}", counts[0], counts[1], counts[2])
        };
        _ = writeln!(
            text,
            "- All peers take turns, and the turns are repeated in rounds ({} of {} on loopback, {} of {}, {} at a distance); each round \
             begins with another peer. A tight turn is {} commands; of cold ssh {}, because a login takes so long. A peer that cannot be \
             installed is told in the tables.",
            format::rounds(spaced),
            Command::True.name(),
            format::rounds(cat_spaced),
            Command::Cat.name(),
            format::rounds(distant_spaced),
            count(Kind::Pool),
            count(Kind::Cold),
        );
        text += "- Before a tight turn the peer runs three commands that are not counted, except cold ssh, and rests for 0.2 s. All are \
                 connected all the time.\n";
        _ = writeln!(
            text,
            "- In the spaced pattern at least {} s pass from one command of a peer to its next one; meanwhile each of the others runs its own. \
             A round is {} commands of each peer, {} at a distance. The pause is not counted, nor what a peer does in it. In the tight pattern \
             all the time counts, by the number of commands.",
            GAP.as_secs(),
            spaced.commands.of(Kind::Pool),
            distant_spaced.commands.of(Kind::Pool),
        );
        text += "- The client's computing is that of the peer's own process (for the Rust peers this benchmark itself), of all that it has \
                 started, be it at its end or still there (masters, sessions), and of masters that have put themselves into the background: \
                 the difference between before and after a turn, by the number of its commands.\n";
        text += "- A range is that of the rounds: the least and the greatest of their medians, or means. A ratio is that of two peers in the \
                 same round, and the median of those; in the tables, that of the two figures that stand there.\n";
        text += "- All peers collect what the command prints and look at its status. A status other than 0, a refused session and an \
                 exception are errors; their times count in no median. Logins are counted in sshd's log, for all turns of a row.\n";
        _ = writeln!(
            text,
            "- A distance is a proxy between client and server that passes each piece on half a round trip later. A byte takes {} there and \
             back. The handshake of TCP is not delayed, so a login takes one round trip less than over a real distance.",
            distant_spaced
                .measured
                .map_or("an unknown time".to_owned(), |ms| format!("{} ms", format::ms(ms)))
        );
        _ = writeln!(
            text,
            "- At once: so many workers, each of which runs one command after another until {} have run ({} logins of cold ssh). Only on \
             loopback. Each peer has all widths in ascending order up to the second in a row at which there are errors, or logins that a \
             client makes by itself because its session was refused; then its best width again (the two best ones of those that bounds name), up to {}, as \
             far as the time that all of this is given lets it. For the pool {BURST} are also \
             begun all at once: it queues them itself.",
            self.widths.count.of(Kind::Pool),
            self.widths.count.of(Kind::Cold),
            format::count(self.plan.widths.rounds, "time"),
        );
        text += "- The server has its default limits: `MaxSessions 10` on a connection, `MaxStartups 10:30:100`. Peers other than the pool \
                 have one connection each.\n\n";
        text
    }
}

fn cores(count: &str) -> String {
    format!("{count} core{}", if count == "1" { "" } else { "s" })
}
