//! docs/benchmarks.md and its pictures, all of it made from what was measured. Only the part
//! between two marks is written by hand, and kept.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use crate::latency::Table;
use crate::peers::Kind;
use crate::plan::{BURST, COMMAND, PAUSE, Plan};
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
    /// The spaced and the tight pattern on loopback, then both at a distance.
    pub tables: [Table; 4],
    pub widths: Results,
    pub duration: Duration,
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
    for table in &measured.tables {
        let rows: Vec<_> = table.rows.iter().map(|row| (row.kind.name(), row.all())).collect();
        let title = format!(
            "{}, {}: milliseconds of each command",
            table.title,
            tables::distance(table.round_trip)
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
        _ = writeln!(
            text,
            "What it takes to run `{COMMAND}` on a host by sshpool and by others: measured in one run, on one machine with {} that was \
             client and server, on {}. `{COMMAND}` does nothing, so all of it is the way there and back. To run it again:\n",
            cores(self.fact("cores")),
            self.fact("date")
        );
        text += "    scripts/bench            # measures, and writes this document\n    \
                 scripts/bench --quick    # checks that it works; writes target/benchmarks.md\n\n";
        text += &bounds::section(self);
        text += &ranks::section(self);
        for (heading, [near, distant]) in [
            ("One command after another, with a pause", [&self.tables[0], &self.tables[2]]),
            ("One command directly after the other", [&self.tables[1], &self.tables[3]]),
        ] {
            _ = writeln!(text, "## {heading}\n\n{}\n", tables::introduction(near));
            for table in [near, distant] {
                text += &tables::latency(table, self.fact("key exchange"));
                _ = writeln!(text, "![{}]({pictures}/{}.svg)\n", table.title, table.slug);
            }
        }
        text += &tables::widths(&self.widths);
        _ = writeln!(text, "![commands a second by width]({pictures}/widths.svg)\n");
        text += &tables::bursts(&self.widths);
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
        let [near, distant] = [&self.tables[0], &self.tables[2]];
        let count = |of: fn(Kind) -> bool| {
            let kind = Kind::ALL.into_iter().find(|&kind| of(kind)).expect("there is one");
            format!(
                "{} spaced and {} tight on loopback, {} and {} at a distance",
                near.commands.of(kind),
                self.tables[1].commands.of(kind),
                distant.commands.of(kind),
                self.tables[3].commands.of(kind)
            )
        };
        _ = writeln!(
            text,
            "- All peers take turns, and the turns are repeated in rounds ({} on loopback, {} at a distance); each round begins with another \
             peer. A turn is {}; of cold ssh {}, because a login takes so long.",
            format::rounds(near),
            format::rounds(distant),
            count(|kind| kind != Kind::Cold),
            count(|kind| kind == Kind::Cold),
        );
        text += "- Before a turn the peer runs three commands that are not counted, except cold ssh, and rests for 0.2 s. All are connected \
                 all the time.\n";
        _ = writeln!(
            text,
            "- The pause of the spaced pattern is {} ms and is not counted. What a peer does in it is not counted either: it is when the pool \
             opens the session that the next command will find ready. In the tight pattern all the time counts, by the number of commands.",
            PAUSE.as_millis()
        );
        text += "- A range is that of the rounds: the least and the greatest of their medians, or means. A ratio is that of two peers in the \
                 same round, and the median of those; in the tables, that of the two figures that stand there.\n";
        text += "- All peers collect what the command prints and look at its status. A status other than 0, a refused session and an \
                 exception are errors; their times count in no median. Logins are counted in sshd's log, for all turns of a row.\n";
        _ = writeln!(
            text,
            "- A distance is a proxy between client and server that passes each piece on half a round trip later. A byte takes {} there and \
             back. The handshake of TCP is not delayed, so a login takes one round trip less than over a real distance.",
            distant
                .measured
                .map_or("an unknown time".to_owned(), |ms| format!("{} ms", format::ms(ms)))
        );
        _ = writeln!(
            text,
            "- At once: so many workers, each of which runs one command after another until {} have run ({} logins of cold ssh). Only on \
             loopback. Each peer has all widths in ascending order up to the second in a row at which there are errors, or logins that a \
             client makes by itself because its session was refused; then its two best widths again, up to {}, as far as the time that all of \
             this is given lets it. For the pool {BURST} are also \
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
