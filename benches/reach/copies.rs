//! `sshpool cp` against scp.

use crate::lab::{Lab, time};
use crate::{Figure, Plan};

pub fn measure(lab: &Lab, plan: &Plan) -> Vec<Figure> {
    let home = &lab.home;
    // What no compression makes smaller.
    let mut state = 1u64;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let bytes: Vec<u8> = random.take(plan.large / 8).flatten().collect();
    std::fs::write(home.path("large"), &bytes).expect("a new file");
    std::fs::write(home.path("small"), &bytes[..1024]).expect("a new file");
    std::fs::create_dir(home.path("tree")).expect("a new directory");
    for number in 0..plan.files {
        let file = home.path("tree").join(number.to_string());
        std::fs::write(file, &bytes[number..number + 1024]).expect("a new file");
    }
    let ours = |words: &[&str]| time(&mut home.sshpool(&[&["cp", "-q"], words].concat()), b"");
    let theirs = |words: &[&str]| time(lab.bare("scp").arg("-q").args(words), b"");
    let megabytes = plan.large >> 20;
    let name = |file: &str| format!("h1:{file}");
    [
        (format!("{megabytes} MiB to the host"), vec!["large", "h1:large"], 1.1),
        (format!("{megabytes} MiB from the host"), vec!["h1:large", "back"], 1.1),
        (format!("{} files of 1 KiB to the host", plan.files), vec!["-r", "tree", "TO"], 0.2),
        ("a file of 1 KiB to the host".to_owned(), vec!["small", "h1:small"], 0.5),
    ]
    .into_iter()
    .map(|(what, words, bound)| {
        // A directory that is there already would get another one inside.
        let told = |words: &[&str], to: String| -> Vec<String> {
            words.iter().map(|word| word.replace("TO", &to)).collect()
        };
        let run = |by: &dyn Fn(&[&str]) -> Result<f64, String>, side: &str, round: usize| {
            let words = told(&words, name(&format!("{side}{round}")));
            by(&words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        Figure::new(what, "sshpool cp", "scp over a master", bound).measure(
            plan.rounds,
            |round| run(&ours, "ours", round),
            |round| run(&theirs, "theirs", round),
        )
    })
    .collect()
}
